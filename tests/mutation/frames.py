"""Rules of header blocks, and of where the relay may say something of its own."""

from __future__ import annotations

from tests.mutation.entry import CLIENT, DIRECTION, UPSTREAM, Mutation

MUTATIONS: tuple[Mutation, ...] = (
    # know each stream's method
    Mutation(
        "a block that is not of an opened call is not decoded",
        CLIENT,
        "        stream = self._block.stream\n        if stream > state.last_stream:",
        "        stream = self._block.stream\n        if False:",
    ),
    Mutation(
        "padding of HEADERS is read as its block",
        "frames.py",
        "    start, end = unpadded(data, start, end, flags)\n    if flags & PRIORITY_FLAG:",
        "    if flags & PRIORITY_FLAG:",
    ),
    Mutation(
        "priority is read as the block", "frames.py", "        start += 5\n", "        start += 0\n"
    ),
    Mutation(
        "CONTINUATION is not part of the block",
        "direction.py",
        '        block = b"".join(self._fragments)',
        "        block = self._fragments[0]",
    ),
    Mutation(
        "late trailers open a stream anew",
        CLIENT,
        "if stream > state.last_stream:\n            self._new",
        "if stream not in state.live:\n            self._new",
    ),
    Mutation(
        "known late trailers open a stream anew",
        CLIENT,
        "if stream > state.last_stream:\n            fields",
        "if stream not in state.live:\n            fields",
    ),
    Mutation(
        "a known block overtakes what waits",
        DIRECTION,
        "or end > len(data) or self._ledger.held:",
        "or end > len(data):",
    ),
    Mutation(
        "a known block with padding is taken for a plain one",
        DIRECTION,
        "_IN_PARTS = frames.END_HEADERS | frames.PADDED | frames.PRIORITY_FLAG",
        "_IN_PARTS = frames.END_HEADERS",
    ),
    Mutation(
        "a part of a block is taken for a known one",
        DIRECTION,
        "if flags & _IN_PARTS != frames.END_HEADERS or",
        "if",
    ),
    Mutation(
        "a known block of a call that was answered here goes on",
        UPSTREAM,
        "if fields is None or self._is_late(stream):",
        "if fields is None:",
    ),
    Mutation(
        "a known block of a call that cannot be read is not refused",
        CLIENT,
        "self._new_stream(stream, flags, fields)\n                self._refuse_unread()",
        "self._new_stream(stream, flags, fields)",
    ),
    # PINGs
    Mutation(
        "the client's PINGs go on",
        CLIENT,
        "        table[frames.PING] = self.on_ping\n",
        "",
    ),
    Mutation(
        "the client's ACKs of PINGs are taken for PINGs",
        CLIENT,
        "if stream or flags & frames.ACK or end - start != frames.PING_BYTES:",
        "if stream or end - start != frames.PING_BYTES:",
    ),
    Mutation(
        "a PING of another length is answered",
        CLIENT,
        "if stream or flags & frames.ACK or end - start != frames.PING_BYTES:",
        "if stream or flags & frames.ACK:",
    ),
    Mutation(
        "a PING of a stream is answered",
        CLIENT,
        "if stream or flags & frames.ACK or end - start != frames.PING_BYTES:",
        "if flags & frames.ACK or end - start != frames.PING_BYTES:",
    ),
    Mutation(
        "an answer to a PING that waits for a call's is forgotten",
        "proxy_connection.py",
        "call_later(ACK_S, self._ack)",
        "call_later(60, self._ack)",
    ),
    Mutation(
        "an answer to a PING waits where no call runs",
        "connection.py",
        "out[0] is state.last_ack and bool(state.live)",
        "out[0] is state.last_ack",
    ),
    Mutation(
        "whatever there is for the client waits like the answer to a PING",
        "connection.py",
        "return len(out) == 1 and out[0] is state.last_ack and",
        "return len(out) == 1 and",
    ),
    Mutation(
        "several answers to PINGs wait",
        "connection.py",
        "return len(out) == 1 and out[0] is state.last_ack",
        "return len(out) >= 1 and out[-1] is state.last_ack",
    ),
    # interleaving
    Mutation(
        "own frames go out inside of a frame",
        "scanner.py",
        "return not (self._left or self.in_block or self._locked or self._feeding)",
        "return not (self.in_block or self._locked or self._feeding)",
    ),
    Mutation(
        "own frames go out inside of a header block",
        "scanner.py",
        "return not (self._left or self.in_block or self._locked or self._feeding)",
        "return not (self._left or self._locked or self._feeding)",
    ),
    Mutation(
        "own frames go out before the server's SETTINGS",
        "connection.py",
        "Scanner(self._upstream_to_client.handlers(), locked=True)",
        "Scanner(self._upstream_to_client.handlers())",
    ),
    Mutation(
        "header blocks overtake each other",
        "sendqueue.py",
        "if self._order[0] != stream or",
        "if",
    ),
    Mutation(
        "a chunk in which nothing is taken is copied",
        "scanner.py",
        "        if start == 0:\n            self.out.append(data)",
        "        if start == 0:\n            self.out.append(bytes(memoryview(data)))",
    ),
    # HPACK
    Mutation(
        "a size update does not evict",
        "headers.py",
        "        self._changed()\n        self._evict()",
        "        self._changed()",
    ),
    Mutation(
        "a remembered block outlives a change of the table",
        "headers.py",
        "        if self._remembered:\n            self._remembered.clear()",
        "        pass",
    ),
    Mutation(
        "an entry larger than the table stays out and leaves the others",
        "headers.py",
        "            self._entries.clear()\n            self._size = 0\n            return",
        "            return",
    ),
)
