"""Breaks the relay core on purpose, one rule at a time: each break has to fail a test.

Run it as `python -m tests.mutation [NAME ...]`. A mutation replaces one piece of text in a
copy of shimcore/relay; the relay's unit and property tests then run against the copy. It
is not part of the default test run: some fifty runs of those tests take minutes.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# In the order in which a break is likely to show; the first failure ends a run.
TESTS = ("tests/unit/relay", "tests/property/test_relay_conversations.py")
SEEDS = "30"
# A mutated core may wait for what never comes.
LIMIT_S = 180


@dataclass(frozen=True, slots=True)
class Mutation:
    """One break: in `file`, the only occurrence of `old` becomes `new`."""

    name: str
    file: str
    old: str
    new: str


def _m(name: str, file: str, old: str, new: str) -> Mutation:
    return Mutation(name, file, old, new)


CLIENT, UPSTREAM, STREAMS = "client_to_upstream.py", "upstream_to_client.py", "streams.py"
ANSWERS = "answers.py"

MUTATIONS = (
    # 0. a request that came in one frame and is known to go on is not held
    _m(
        "a part of a message is taken for all of it",
        "messages.py",
        'return int.from_bytes(payload[1:PREFIX_BYTES], "big") == size',
        "return True",
    ),
    _m(
        "a compressed message is taken for what it inflates to",
        "messages.py",
        "if not 0 <= size <= MESSAGE_BYTES or payload[0]:",
        "if not 0 <= size <= MESSAGE_BYTES:",
    ),
    _m(
        "a first frame is taken for all of a request",
        CLIENT,
        "first_and_last = opened.ended and not opened.gathered",
        "first_and_last = not opened.gathered",
    ),
    _m(
        "a last frame is taken for all of a request",
        CLIENT,
        "first_and_last = opened.ended and not opened.gathered",
        "first_and_last = opened.ended",
    ),
    _m(
        "the end of a call that is not held is not told",
        CLIENT,
        "opened.phase, opened.awaited = Phase.RELEASED, True",
        "opened.phase = Phase.RELEASED",
    ),
    # 0. a client that gives up calls is borne up to a pace
    _m(
        "a reset does not count",
        CLIENT,
        "            state.client.given_up()\n",
        "            pass\n",
    ),
    _m(
        "a call that finishes makes up for nothing",
        UPSTREAM,
        "        state.client.finished()\n",
        "",
    ),
    _m(
        "what all may give up is not used up",
        "clients.py",
        "        self._left -= taken\n",
        "",
    ),
    _m(
        "quiet time is saved up",
        "clients.py",
        "min((now - self._at) * self._per_s, self._before)",
        "(now - self._at) * self._per_s",
    ),
    _m(
        "calls that finished are made up for by time as well",
        "clients.py",
        "            self._before = min(self._before, self.owed)\n",
        "",
    ),
    _m(
        "each connection is a client of its own",
        "clients.py",
        "        client = self._of.get(pid)\n",
        "        client = None\n",
    ),
    _m(
        "a connection that ends gives up nothing",
        "connection.py",
        "            state.client.given_up(len(state.live))\n",
        "            pass\n",
    ),
    _m(
        "calls left open do not count",
        "client_to_upstream.py",
        "        state.client.began()\n",
        "        state.client.open += 1\n",
    ),
    _m(
        "calls that are over stay open",
        STREAMS,
        "        self.client.over()\n",
        "",
    ),
    _m(
        "calls beyond the shares are not paced",
        "clients.py",
        "        if self._common.open > SHARED_OPEN:\n            self.resets.owe()\n",
        "",
    ),
    _m(
        "what is open beyond a share is never given back",
        "clients.py",
        "            self._common.open -= 1\n",
        "            pass\n",
    ),
    _m(
        "connections of all together have no pace",
        "clients.py",
        "if self.connects.wait_s(now) or not self._common.connects.take_one(now):",
        "if self.connects.wait_s(now):",
    ),
    _m(
        "a client with a connection is forgotten",
        "clients.py",
        "            if not client.connections:\n",
        "            if client:\n",
    ),
    _m(
        "a list may have any number of fields",
        "headers.py",
        "        if len(fields) > HEADER_FIELDS:\n",
        "        if len(fields) > 1 << 30:\n",
    ),
    _m(
        "a long string is decoded at once",
        "headers.py",
        "string.step(BLOCK_PIECE_BYTES)",
        "string.step(1 << 30)",
    ),
    # 1. know each stream's method
    _m(
        "a block that is not of an opened call is not decoded",
        CLIENT,
        "        stream = self._block.stream\n        if stream > state.last_stream:",
        "        stream = self._block.stream\n        if False:",
    ),
    _m(
        "padding of HEADERS is read as its block",
        "frames.py",
        "    start, end = unpadded(data, start, end, flags)\n    if flags & PRIORITY_FLAG:",
        "    if flags & PRIORITY_FLAG:",
    ),
    _m(
        "priority is read as the block", "frames.py", "        start += 5\n", "        start += 0\n"
    ),
    _m(
        "CONTINUATION is not part of the block",
        "direction.py",
        '        block = b"".join(self._fragments)',
        "        block = self._fragments[0]",
    ),
    _m(
        "late trailers open a stream anew",
        CLIENT,
        "if stream > state.last_stream:",
        "if stream not in state.live:",
    ),
    # 2. hold the request
    _m(
        "DATA of an opened call passes",
        CLIENT,
        "        opened = state.opened.get(stream)\n        if opened is None:\n"
        "            if not ledger.held",
        "        opened = None\n        if opened is None:\n            if not ledger.held",
    ),
    _m(
        "END_STREAM is always set on what is sent",
        "sendqueue.py",
        "ends = item.end_stream and part == size",
        "ends = part == size",
    ),
    _m(
        "END_STREAM comes with the first part",
        "sendqueue.py",
        "ends = item.end_stream and part == size",
        "ends = item.end_stream",
    ),
    _m(
        "several messages are held as one",
        STREAMS,
        "(need is not None and len(stream.gathered) > need)",
        "False",
    ),
    _m(
        "a second message after the first was told stays held",
        CLIENT,
        "            if payload:\n"
        '                state.release(opened, "bytes after the message")\n',
        "",
    ),
    _m(
        "no message stays held",
        STREAMS,
        "if stream.ended or (need is not None",
        "if (need is not None",
    ),
    _m(
        "trailers do not release",
        CLIENT,
        '            state.release(opened, "trailers")  # before',
        "            pass  # before",
    ),
    # 3. windows
    _m(
        "a shorter message credits nobody",
        "sendqueue.py",
        "        self.credit(0, self.ledger.settle())",
        "        self.ledger.settle()",
    ),
    _m(
        "a shorter message does not credit the stream",
        STREAMS,
        "        if not stream.ended:\n            self.requests.credit(stream.id, owed)",
        "",
    ),
    _m(
        "a longer message is not withheld",
        "windows.py",
        "        if self.debt <= 0:\n            return increment",
        "        if self.debt <= 10**9:\n            return increment",
    ),
    _m(
        "all of upstream's credit is withheld",
        "windows.py",
        "withheld = min(increment, self.debt)",
        "withheld = increment",
    ),
    _m(
        "the surplus does not wait for the connection's window",
        "sendqueue.py",
        "room = self._ledger.room",
        "room = 1 << 30",
    ),
    _m(
        "the surplus does not wait for the stream's window",
        "sendqueue.py",
        "room = min(room, item.ledger.room)",
        "pass",
    ),
    _m(
        "no credit for held bytes of the connection",
        STREAMS,
        "if ledger.seen < GRANT_BELOW_BYTES and ledger.held > ledger.debt:",
        "if False:",
    ),
    _m(
        "no credit for held bytes of a stream",
        STREAMS,
        "if credit > 0 and stream.ledger.seen < need - len(stream.gathered):",
        "if False:",
    ),
    _m(
        "credit for held bytes is not withheld later",
        "windows.py",
        '"""The writer is given credit for bytes that the reader has not seen."""\n'
        "        self.debt += size",
        '"""The writer is given credit for bytes that the reader has not seen."""',
    ),
    _m(
        "withheld credit is not granted again",
        UPSTREAM,
        "        state.grant(opened)\n",
        "",
    ),
    _m(
        "padding that is held is not credited",
        STREAMS,
        "        if padding:\n            self.ledger.replace",
        "        if False:\n            self.ledger.replace",
    ),
    _m(
        "padding of queued DATA is not credited",
        "direction.py",
        "        self._ledger.replace(padding, 0)",
        "        self._ledger.held -= padding",
    ),
    _m(
        "a reset does not give back what was held",
        STREAMS,
        "        self.ledger.replace(len(stream.gathered), 0)\n",
        "        self.ledger.held -= len(stream.gathered)\n",
    ),
    _m(
        "DATA that passes is not counted",
        CLIENT,
        "            if not ledger.held and not ledger.debt:\n"
        "                ledger.room -= end - start",
        "            if not ledger.held and not ledger.debt:\n                pass",
    ),
    _m(
        "a client may overrun its window",
        STREAMS,
        "if size and size > self.ledger.seen:",
        "if False:",
    ),
    # 4. refuse
    _m(
        "upstream is not reset",
        STREAMS,
        "            self.to_upstream.inject(reset)",
        "            pass",
    ),
    _m(
        "a reset goes before the HEADERS that wait",
        STREAMS,
        "        if self.queue.waits(stream.id):\n            self.queue.add_frame",
        "        if False:\n            self.queue.add_frame",
    ),
    _m(
        "late header blocks are dropped, whatever they change",
        UPSTREAM,
        "        if self._block_changed or not late:",
        "        if not late:",
    ),
    _m(
        "late header blocks are forwarded, whatever they change",
        UPSTREAM,
        "        if self._block_changed or not late:",
        "        if True:",
    ),
    _m(
        "late DATA reaches the client",
        UPSTREAM,
        "        if state.refused and stream in state.refused:\n"
        "            return self._refused_data",
        "        if False:\n            return self._refused_data",
    ),
    _m(
        "late DATA is not credited to upstream",
        UPSTREAM,
        "        self._flow.drop(end - start)\n",
        "",
    ),
    _m(
        "a refusal indexes its fields",
        "frames.py",
        'return b"\\x00" + _string(name) + _string(value)',
        'return b"\\x40" + _string(name) + _string(value)',
    ),
    _m(
        "a refusal's text is not encoded",
        "frames.py",
        'safe=" !\\"#$&',
        'safe=" %!\\"#$&',
    ),
    _m(
        "a refusal ignores what upstream has answered",
        ANSWERS,
        "return opened.answered or passing is not None",
        "return passing is not None",
    ),
    _m(
        "a refusal ignores a block that is on its way",
        ANSWERS,
        "return opened.answered or passing is not None",
        "return opened.answered",
    ),
    _m(
        "a call is ended twice",
        ANSWERS,
        "        if passing is not None and passing & frames.END_STREAM:\n",
        "        if False:\n",
    ),
    _m(
        "the owed size update is left out",
        UPSTREAM,
        "        self.decoder.resize(smallest)\n        return frames.size_update(smallest)",
        '        return b""',
    ),
    _m(
        "the owed size update is the last one",
        UPSTREAM,
        "            size = min(size, smallest)",
        "            pass",
    ),
    _m(
        "the client's late DATA is not credited",
        CLIENT,
        "        state.ledger.replace(end - start, 0)\n",
        "        state.ledger.held -= end - start\n",
    ),
    # 4. answer
    _m(
        "an answer is no debt",
        ANSWERS,
        "        replies.ledger.replace(0, size)",
        "        replies.ledger.held += size",
    ),
    _m(
        "the client's credit is not withheld",
        CLIENT,
        "        passed = ledger.update(increment)",
        "        ledger.update(increment)\n        passed = increment",
    ),
    _m(
        "all of the client's credit is withheld",
        CLIENT,
        "        replies.credit(0, passed)\n",
        "",
    ),
    _m(
        "the client's credit is not counted",
        CLIENT,
        "        if not ledger.held and not ledger.debt:\n            ledger.room += increment\n",
        "        if not ledger.held and not ledger.debt:\n",
    ),
    _m(
        "the client's credit moves nothing",
        CLIENT,
        "        replies.queue.flush()\n        if passed",
        "        if passed",
    ),
    _m(
        "the client's credit for an answered stream moves nothing",
        CLIENT,
        "            state.replies.queue.flush()\n        elif waits",
        "            pass\n        elif waits",
    ),
    _m(
        "the client's credit for an opened stream is not counted",
        CLIENT,
        "            opened.reply.room += increment\n",
        "            pass\n",
    ),
    _m(
        "the client's credit for an answered stream goes on",
        CLIENT,
        "        if stream in state.refused or (opened is not None",
        "        if waits and (opened is not None",
    ),
    _m(
        "replies that pass are not counted",
        UPSTREAM,
        "        else:\n            ledger.room -= end - start\n            verdict = PASS",
        "        else:\n            verdict = PASS",
    ),
    _m(
        "replies of opened calls are not counted",
        UPSTREAM,
        "        else:\n            ledger.room -= end - start\n        if verdict",
        "        if verdict",
    ),
    _m(
        "replies of opened calls are not counted for their stream",
        UPSTREAM,
        "        opened.reply.room -= end - start\n",
        "",
    ),
    _m(
        "upstream's DATA overruns the client's window after an answer",
        UPSTREAM,
        "        elif ledger.held or ledger.debt:",
        "        elif False:",
    ),
    _m(
        "upstream's DATA of an opened call overruns the client's window after an answer",
        UPSTREAM,
        "        if ledger.held or ledger.debt:\n            verdict",
        "        if False:\n            verdict",
    ),
    _m(
        "upstream may overrun the window that it sees",
        UPSTREAM,
        "if size and size > self._ledger.seen:",
        "if False:",
    ),
    _m(
        "upstream's header blocks overtake its DATA",
        UPSTREAM,
        "            self._keep_block |= queue.blocks_wait or queue.waits(stream)\n",
        "",
    ),
    _m(
        "upstream's resets overtake its DATA",
        UPSTREAM,
        "        if self._ledger.held and queue.waits(stream):",
        "        if False:",
    ),
    _m(
        "padding of DATA that waits is not credited to its stream",
        "direction.py",
        "            self._flow.credit(stream, padding)",
        "            pass",
    ),
    _m(
        "an answer's trailers go before its DATA",
        ANSWERS,
        "        replies.queue.add_last(stream, partial(self._trailers, stream), "
        "partial(self._sent, opened))",
        "        self._state.to_client.inject(self._trailers(stream))\n        self._sent(opened)",
    ),
    _m(
        "an answer's trailers keep other streams' blocks waiting",
        "sendqueue.py",
        '        self._add(stream, _Whole(b"", in_order=False, make=make, sent=sent))',
        "        self._order.append(stream)\n"
        "        self._add(stream, _Whole(make(), in_order=True, sent=sent))",
    ),
    _m(
        "an answer's trailers forget the owed size update",
        ANSWERS,
        "return frames.trailers(stream, self._side.owed_size_update())",
        "return frames.trailers(stream)",
    ),
    _m(
        "an answer forgets the owed size update",
        ANSWERS,
        "block = frames.response(stream, self._side.owed_size_update())",
        "block = frames.response(stream)",
    ),
    _m(
        "an ACK that waits is owed nothing",
        UPSTREAM,
        "size = self._reader_settings.ack_arrives(frames.SETTINGS_HEADER_TABLE_SIZE)",
        "size = self._reader_settings.loosest(frames.SETTINGS_HEADER_TABLE_SIZE)",
    ),
    _m(
        "a second response",
        ANSWERS,
        "        if not answered:\n",
        "        if True:\n",
    ),
    _m(
        "an answer goes on with upstream's own",
        ANSWERS,
        "        if opened.answer:\n",
        "        if False:\n",
    ),
    _m(
        "a reset leaves an answer waiting",
        CLIENT,
        "            self.drop_answer(opened)\n",
        "            pass\n",
    ),
    _m(
        "a reset leaves upstream's DATA waiting",
        CLIENT,
        "            state.replies.drop_queued(stream)\n",
        "            pass\n",
    ),
    _m(
        "a reset of an answered call goes on",
        CLIENT,
        "            return TAKE  # upstream has had a reset already",
        "            return PASS",
    ),
    _m(
        "dropped replies are not given back",
        "sendqueue.py",
        "        self.ledger.replace(self.queue.drop_data(stream), 0)\n",
        "        self.ledger.held -= self.queue.drop_data(stream)\n",
    ),
    _m(
        "late DATA gets into an answer",
        UPSTREAM,
        "        if opened.answering:\n            return self._refused_data",
        "        if False:\n            return self._refused_data",
    ),
    _m(
        "upstream's end ends an answer that waits",
        UPSTREAM,
        "        if opened is not None and opened.answering:\n            return\n",
        "",
    ),
    _m(
        "replies' windows do not follow the client's initial window",
        STREAMS,
        "            stream.reply.room += difference\n",
        "            pass\n",
    ),
    _m(
        "an answer does not follow a larger initial window",
        STREAMS,
        "            self.replies.queue.flush()\n",
        "            pass\n",
    ),
    _m(
        "answers that wait are not bounded in bytes",
        ANSWERS,
        "if replies.ledger.debt + size > ANSWER_BYTES or self._waiting >= ANSWERS_WAITING:",
        "if self._waiting >= ANSWERS_WAITING:",
    ),
    _m(
        "answers that wait are not bounded in number",
        ANSWERS,
        "if replies.ledger.debt + size > ANSWER_BYTES or self._waiting >= ANSWERS_WAITING:",
        "if replies.ledger.debt + size > ANSWER_BYTES:",
    ),
    _m(
        "what waits behind answers is not bounded",
        UPSTREAM,
        "if self._ledger.held + size > REPLY_BYTES:",
        "if False:",
    ),
    _m(
        "refusals behind an answer are not bounded",
        "connection.py",
        "            state.replies.queue.check()  # what",
        "            pass  # what",
    ),
    # PINGs
    _m(
        "the client's PINGs go on",
        CLIENT,
        "        table[frames.PING] = self.on_ping\n",
        "",
    ),
    _m(
        "the client's ACKs of PINGs are taken for PINGs",
        CLIENT,
        "if stream or flags & frames.ACK or end - start != frames.PING_BYTES:",
        "if stream or end - start != frames.PING_BYTES:",
    ),
    _m(
        "a PING of another length is answered",
        CLIENT,
        "if stream or flags & frames.ACK or end - start != frames.PING_BYTES:",
        "if stream or flags & frames.ACK:",
    ),
    _m(
        "a PING of a stream is answered",
        CLIENT,
        "if stream or flags & frames.ACK or end - start != frames.PING_BYTES:",
        "if flags & frames.ACK or end - start != frames.PING_BYTES:",
    ),
    # strict methods
    _m(
        "a strict request that is not understood is released",
        STREAMS,
        "        if not stream.strict:\n            self.send(stream, bytes(stream.gathered))\n"
        "        else:",
        "        if True:\n            self.send(stream, bytes(stream.gathered))\n        else:",
    ),
    _m(
        "a strict request is told before its end",
        STREAMS,
        "and (stream.ended or not stream.strict):",
        "and True:",
    ),
    _m(
        "a strict call without a body passes",
        CLIENT,
        "        elif strict and ends:",
        "        elif False:",
    ),
    _m(
        "a strict call is refused before its HEADERS",
        CLIENT,
        "            self._refuse_now = opened, why\n",
        "            state.release(opened, why)\n",
    ),
    _m(
        "a disguised path passes",
        CLIENT,
        "if (strict or state.strict()) and disguised(path, fields, state.route):",
        "if False:",
    ),
    _m(
        "several encodings of a strict call pass",
        CLIENT,
        'sum(name == b"grpc-encoding" for name, _ in fields) > 1:',
        "False:",
    ),
    _m(
        "too much of strict requests is released only if it can leave",
        STREAMS,
        "return stream.strict or len(stream.gathered) <= room",
        "return len(stream.gathered) <= room",
    ),
    _m(
        "a strict connection goes unread",
        STREAMS,
        "        if self.strict() or any(",
        "        if any(",
    ),
    _m(
        "a strict call is released when nothing is strict any more",
        STREAMS,
        "if self.strict() or any(s.strict and s.holding for s in self.opened.values()):",
        "if self.strict():",
    ),
    _m(
        "a connection that goes unread stays so",
        "connection.py",
        "        if state.lost and state.strict():",
        "        if False:",
    ),
    # metadata
    _m(
        "the transport's fields are the caller's",
        "messages.py",
        "field[0] not in _TRANSPORTS_OWN and",
        "",
    ),
    _m(
        "metadata of one call is not bounded",
        STREAMS,
        "if size > METADATA_BYTES or",
        "if",
    ),
    _m(
        "metadata of a connection is not bounded",
        STREAMS,
        "if size > METADATA_BYTES or self._metadata_bytes + size > CONNECTION_METADATA_BYTES:",
        "if size > METADATA_BYTES:",
    ),
    _m(
        "metadata of ended calls counts for ever",
        STREAMS,
        "        self._metadata_bytes -= stream.metadata_bytes\n",
        "",
    ),
    # interleaving
    _m(
        "own frames go out inside of a frame",
        "scanner.py",
        "return not (self._left or self.in_block or self._locked or self._feeding)",
        "return not (self.in_block or self._locked or self._feeding)",
    ),
    _m(
        "own frames go out inside of a header block",
        "scanner.py",
        "return not (self._left or self.in_block or self._locked or self._feeding)",
        "return not (self._left or self._locked or self._feeding)",
    ),
    _m(
        "own frames go out before the server's SETTINGS",
        "connection.py",
        "Scanner(self._upstream_to_client.handlers(), locked=True)",
        "Scanner(self._upstream_to_client.handlers())",
    ),
    _m(
        "header blocks overtake each other",
        "sendqueue.py",
        "if self._order[0] != stream or",
        "if",
    ),
    _m(
        "a chunk in which nothing is taken is copied",
        "scanner.py",
        "        if start == 0:\n            self.out.append(data)",
        "        if start == 0:\n            self.out.append(bytes(memoryview(data)))",
    ),
    # settings
    _m(
        "a smaller initial window counts from the ACK on only",
        "settings.py",
        "min(self._values(frames.SETTINGS_INITIAL_WINDOW_SIZE))",
        "self._acknowledged[frames.SETTINGS_INITIAL_WINDOW_SIZE]",
    ),
    _m(
        "a larger initial window counts at once",
        "settings.py",
        "min(self._values(frames.SETTINGS_INITIAL_WINDOW_SIZE))",
        "self._values(frames.SETTINGS_INITIAL_WINDOW_SIZE)[-1]",
    ),
    _m(
        "open streams do not follow the initial window",
        STREAMS,
        "            stream.ledger.room += difference\n",
        "            pass\n",
    ),
    _m(
        "a held request is stuck below zero",
        STREAMS,
        "                self.grant(stream)  # what fitted",
        "                pass  # what fitted",
    ),
    _m(
        "an ACK overtakes queued DATA",
        "direction.py",
        "if queue.blocks_wait or (shrinks and queue.untracked_waits):",
        "if queue.blocks_wait:",
    ),
    _m(
        "an ACK overtakes header blocks",
        "direction.py",
        "if queue.blocks_wait or (shrinks and queue.untracked_waits):",
        "if shrinks and queue.untracked_waits:",
    ),
    _m(
        "DATA overtakes an ACK",
        "sendqueue.py",
        "(item.untracked is not None and not item.untracked.free)",
        "False",
    ),
    _m(
        "the decoder's bound stays at its default",
        "headers.py",
        "self.allowed_bytes = max(self.allowed_bytes, size)",
        "pass",
    ),
    # HPACK
    _m(
        "a size update does not evict",
        "headers.py",
        "        self._changed()\n        self._evict()",
        "        self._changed()",
    ),
    _m(
        "a remembered block outlives a change of the table",
        "headers.py",
        "        if self._remembered:\n            self._remembered.clear()",
        "        pass",
    ),
    _m(
        "an entry larger than the table stays out and leaves the others",
        "headers.py",
        "            self._entries.clear()\n            self._size = 0\n            return",
        "            return",
    ),
    # limits
    _m(
        "a header block has no limit",
        "direction.py",
        "if self._size > HEADER_BLOCK_BYTES:",
        "if False:",
    ),
    _m(
        "a long header frame is waited for",
        "direction.py",
        "        if size > HEADER_BLOCK_BYTES:",
        "        if False:",
    ),
    _m(
        "any number of streams is tracked",
        CLIENT,
        "if len(state.live) + len(state.opened) >= TRACKED_STREAMS:",
        "if False:",
    ),
    _m(
        "any number of refused streams is remembered",
        STREAMS,
        "if len(self.refused) > REFUSED_STREAMS:",
        "if False:",
    ),
    _m(
        "gzip inflates beyond the limit",
        "messages.py",
        "        if self.size > MESSAGE_BYTES:\n",
        "        if False:\n",
    ),
    _m(
        "any encoding is taken for gzip",
        "messages.py",
        'if encoding != b"gzip":',
        "if False:",
    ),
    _m(
        "a message may have any length",
        "messages.py",
        "    if length > MESSAGE_BYTES:",
        "    if False:",
    ),
    _m(
        "credit is given past the connection's limit",
        STREAMS,
        "if ledger.held > CONNECTION_HELD_BYTES or self.account_held.over:",
        "if self.account_held.over:",
    ),
    _m(
        "credit is given past the process's limit",
        STREAMS,
        "if ledger.held > CONNECTION_HELD_BYTES or self.account_held.over:",
        "if ledger.held > CONNECTION_HELD_BYTES:",
    ),
    _m(
        "the process's budget is not given back",
        STREAMS,
        "        self.account_held.change(-self.account_held.used)\n",
        "",
    ),
    # shares of budgets, and of the loop's turns
    _m(
        "what follows a gzip stream is forgotten",
        "messages.py",
        "if left if inflater.eof else not given and not part:",
        "if not inflater.eof and not given and not part:",
    ),
    _m(
        "what inflates too far goes on to the runtime",
        STREAMS,
        "if stream.gathered[0] and error.code == GRPC_RESOURCE_EXHAUSTED:",
        "if False:",
    ),
    _m(
        "what inflates is not counted for the process",
        STREAMS,
        "self.ledger.held + self._inflated - self.account_held.used",
        "self.ledger.held - self.account_held.used",
    ),
    _m(
        "what has inflated counts for ever",
        STREAMS,
        "        self._inflated -= stream.inflated_bytes\n",
        "",
    ),
    _m(
        "a compressed message waits for the end of its stream",
        STREAMS,
        "and (stream.ended or not stream.strict):",
        "and (stream.ended or not (stream.strict or stream.gathered[0])):",
    ),
    _m(
        "a known call is let go untold while another is inflated",
        STREAMS,
        "stream not in self.packed:  # nobody knows of those\n"
        "            self.events.append(CallCancelled(stream.id))\n"
        "        if not",
        "not self.packed:\n"
        "            self.events.append(CallCancelled(stream.id))\n"
        "        if not",
    ),
    _m(
        "a known call ends untold while another is inflated",
        STREAMS,
        "stream not in self.packed:  # nobody knows of those\n"
        "            self.events.append(CallCancelled(stream.id))\n"
        "        elif",
        "not self.packed:\n            self.events.append(CallCancelled(stream.id))\n        elif",
    ),
    _m(
        "a call that is over goes on inflating",
        STREAMS,
        "if stream.phase is not Phase.DECIDING or self.opened.get(stream.id) is not stream:",
        "if False:",
    ),
    _m(
        "upstream's windows let a client have more than its share",
        STREAMS,
        "return held > CONNECTION_HELD_BYTES or self.account_held.over",
        "return held > CONNECTION_HELD_BYTES",
    ),
    _m(
        "a share is not the connection's own",
        "budget.py",
        "return self.used > budget.share and budget.pooled > budget.limit",
        "return budget.pooled > budget.limit",
    ),
    _m(
        "what was refused counts",
        "budget.py",
        "            self.change(-size)\n",
        "",
    ),
    _m(
        "a pull waits with all others",
        CLIENT,
        "long=strict or route is Route.LONG",
        "long=strict",
    ),
    _m(
        "a chunk's frames have no limit",
        "scanner.py",
        "for _ in repeat(None, frames):",
        "while True:",
    ),
    _m(
        "the rest of a chunk goes on unseen",
        "scanner.py",
        "            self._rest, self._at = data, position\n",
        "            self.out.append(data[position:])\n",
    ),
    _m(
        "a turn has no end",
        "turns.py",
        "while self._waiting and self._left_s > 0:",
        "while self._waiting:",
    ),
    _m(
        "who has begun goes on",
        "turns.py",
        "        if working.go_on(began + SLICE_S):\n            self._waiting.append(working)",
        "        if working.go_on(began + SLICE_S):\n            self._waiting.appendleft(working)",
    ),
    # the end of calls, and of sight
    _m(
        "a reset while held cancels nothing",
        CLIENT,
        "            state.report(opened, GRPC_CANCELLED)\n",
        "",
    ),
    _m(
        "a reset while held is not forwarded",
        CLIENT,
        "        return PASS\n\n    def on_window_update",
        "        return TAKE\n\n    def on_window_update",
    ),
    _m(
        "an outcome is told twice",
        STREAMS,
        "            stream.awaited = False\n",
        "",
    ),
    _m(
        "a lost table releases nothing",
        STREAMS,
        "            if stream.holding:\n                self.release(stream, reason)\n"
        "            else:",
        "            if stream.holding:\n                pass\n            else:",
    ),
    _m(
        "a lost table is told every time",
        STREAMS,
        "        if self.lost:\n            return\n",
        "",
    ),
    _m(
        "what is not HTTP/2 is read as frames",
        "connection.py",
        "            self._to_upstream.drop_sight()\n",
        "",
    ),
    _m(
        "padding is taken for the answer",
        UPSTREAM,
        "            first, last = frames.unpadded(data, start, end, flags)",
        "            first, last = start, end",
    ),
)


def main(names: list[str]) -> int:
    """Run the mutations whose names contain one of `names` (all without); 1 if one lives."""
    chosen = [m for m in MUTATIONS if not names or any(name in m.name for name in names)]
    with _copy() as unchanged:
        if _fails(unchanged):
            print("the tests fail without any mutation", file=sys.stderr)
            return 2
    alive = 0
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        for mutation, caught in zip(chosen, pool.map(_caught, chosen), strict=True):
            alive += not caught
            print("caught" if caught else "ALIVE ", mutation.name, flush=True)
    print(f"{len(chosen) - alive} of {len(chosen)} mutations are caught")
    return 1 if alive else 0


def _caught(mutation: Mutation) -> bool:
    with _copy() as folder:
        path = folder / "shimcore" / "relay" / mutation.file
        text = path.read_text()
        if text.count(mutation.old) != 1:
            raise SystemExit(f"{mutation.name}: its text is not once in {mutation.file}")
        path.write_text(text.replace(mutation.old, mutation.new))
        return _fails(folder)


@contextmanager
def _copy() -> Iterator[Path]:
    """A folder with the sources and tests that are needed, to be changed at will."""
    with tempfile.TemporaryDirectory(prefix="mutation-") as name:
        folder = Path(name)
        for part in ("shimcore", "tests/unit/relay", "tests/property", "tests/support"):
            shutil.copytree(
                ROOT / part, folder / part, ignore=shutil.ignore_patterns("__pycache__")
            )
        for part in ("pyproject.toml", "tests/__init__.py", "tests/unit/__init__.py"):
            shutil.copy(ROOT / part, folder / part)
        yield folder


def _fails(folder: Path) -> bool:
    """Whether a test fails in this folder. A run that takes too long counts as a failure."""
    environment = {**os.environ, "RELAY_SEEDS": SEEDS, "PYTHONPATH": str(folder)}
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *TESTS]
    try:
        done = subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, timeout=LIMIT_S, check=False
        )
    except subprocess.TimeoutExpired:
        return True
    if done.returncode not in {0, 1}:
        raise SystemExit(f"pytest did not run:\n{done.stdout.decode()}{done.stderr.decode()}")
    return done.returncode == 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
