"""Rules of opened calls: what is held, told and let go."""

from __future__ import annotations

from tests.mutation.entry import CLIENT, STREAMS, UPSTREAM, Mutation

MUTATIONS: tuple[Mutation, ...] = (
    # a request that came in one frame and is known to go on is not held
    Mutation(
        "a part of a message is taken for all of it",
        "messages.py",
        'return int.from_bytes(payload[1:PREFIX_BYTES], "big") == size',
        "return True",
    ),
    Mutation(
        "a compressed message is taken for what it inflates to",
        "messages.py",
        "if not 0 <= size <= MESSAGE_BYTES or payload[0]:",
        "if not 0 <= size <= MESSAGE_BYTES:",
    ),
    Mutation(
        "a first frame is taken for all of a request",
        CLIENT,
        "first_and_last = opened.ended and not opened.gathered",
        "first_and_last = not opened.gathered",
    ),
    Mutation(
        "a last frame is taken for all of a request",
        CLIENT,
        "first_and_last = opened.ended and not opened.gathered",
        "first_and_last = opened.ended",
    ),
    Mutation(
        "the end of a call that is not held is not told",
        CLIENT,
        "opened.phase, opened.awaited = Phase.RELEASED, True",
        "opened.phase = Phase.RELEASED",
    ),
    # hold the request
    Mutation(
        "DATA of an opened call passes",
        CLIENT,
        "        opened = state.opened.get(stream)\n        if opened is None:\n"
        "            if not ledger.held",
        "        opened = None\n        if opened is None:\n            if not ledger.held",
    ),
    Mutation(
        "END_STREAM is always set on what is sent",
        "sendqueue.py",
        "ends = item.end_stream and part == size",
        "ends = part == size",
    ),
    Mutation(
        "END_STREAM comes with the first part",
        "sendqueue.py",
        "ends = item.end_stream and part == size",
        "ends = item.end_stream",
    ),
    Mutation(
        "several messages are held as one",
        STREAMS,
        "(need is not None and len(stream.gathered) > need)",
        "False",
    ),
    Mutation(
        "a second message after the first was told stays held",
        CLIENT,
        "            if payload:\n"
        '                state.release(opened, "bytes after the message")\n',
        "",
    ),
    Mutation(
        "no message stays held",
        STREAMS,
        "if stream.ended or (need is not None",
        "if (need is not None",
    ),
    Mutation(
        "trailers do not release",
        CLIENT,
        '            state.release(opened, "trailers")  # before',
        "            pass  # before",
    ),
    # strict methods
    Mutation(
        "a strict request that is not understood is released",
        STREAMS,
        "        if not stream.strict:\n            self.send(stream, bytes(stream.gathered))\n"
        "        else:",
        "        if True:\n            self.send(stream, bytes(stream.gathered))\n        else:",
    ),
    Mutation(
        "a strict request is told before its end",
        STREAMS,
        "and (stream.ended or not stream.strict):",
        "and True:",
    ),
    Mutation(
        "a strict call without a body passes",
        CLIENT,
        "        elif strict and ends:",
        "        elif False:",
    ),
    Mutation(
        "a strict call is refused before its HEADERS",
        CLIENT,
        "            self._refuse_now = opened, why\n",
        "            state.release(opened, why)\n",
    ),
    Mutation(
        "a disguised path passes",
        CLIENT,
        "if (strict or state.strict()) and disguised(path, fields, state.route):",
        "if False:",
    ),
    Mutation(
        "several encodings of a strict call pass",
        CLIENT,
        'sum(name == b"grpc-encoding" for name, _ in fields) > 1:',
        "False:",
    ),
    Mutation(
        "too much of strict requests is released only if it can leave",
        STREAMS,
        "return stream.strict or len(stream.gathered) <= room",
        "return len(stream.gathered) <= room",
    ),
    Mutation(
        "a strict connection goes unread",
        STREAMS,
        "        if self.strict() or any(",
        "        if any(",
    ),
    Mutation(
        "a strict call is released when nothing is strict any more",
        STREAMS,
        "if self.strict() or any(s.strict and s.holding for s in self.opened.values()):",
        "if self.strict():",
    ),
    Mutation(
        "a connection that goes unread stays so",
        "connection.py",
        "        if state.lost and state.strict():",
        "        if False:",
    ),
    # metadata
    Mutation(
        "the transport's fields are the caller's",
        "messages.py",
        "field[0] not in _TRANSPORTS_OWN and",
        "",
    ),
    Mutation(
        "metadata of one call is not bounded",
        STREAMS,
        "if size > METADATA_BYTES or",
        "if",
    ),
    Mutation(
        "metadata of a connection is not bounded",
        STREAMS,
        "if size > METADATA_BYTES or self._metadata_bytes + size > CONNECTION_METADATA_BYTES:",
        "if size > METADATA_BYTES:",
    ),
    Mutation(
        "metadata of ended calls counts for ever",
        STREAMS,
        "        self._metadata_bytes -= stream.metadata_bytes\n",
        "",
    ),
    # the end of calls, and of sight
    Mutation(
        "a reset while held cancels nothing",
        CLIENT,
        "            state.report(opened, GRPC_CANCELLED)\n",
        "",
    ),
    Mutation(
        "a reset while held is not forwarded",
        CLIENT,
        "        return PASS\n\n    def on_window_update",
        "        return TAKE\n\n    def on_window_update",
    ),
    Mutation(
        "an outcome is told twice",
        STREAMS,
        "            stream.awaited = False\n",
        "",
    ),
    Mutation(
        "a lost table releases nothing",
        STREAMS,
        "            if stream.holding:\n                self.release(stream, reason)\n"
        "            else:",
        "            if stream.holding:\n                pass\n            else:",
    ),
    Mutation(
        "a lost table is told every time",
        STREAMS,
        "        if self.lost:\n            return\n",
        "",
    ),
    Mutation(
        "what is not HTTP/2 is read as frames",
        "connection.py",
        "            self._to_upstream.drop_sight()\n",
        "",
    ),
    Mutation(
        "padding is taken for the answer",
        UPSTREAM,
        "            first, last = frames.unpadded(data, start, end, flags)",
        "            first, last = start, end",
    ),
)
