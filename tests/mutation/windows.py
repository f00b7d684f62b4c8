"""Rules of the windows, and of the settings that change them."""

from __future__ import annotations

from tests.mutation.entry import CLIENT, STREAMS, UPSTREAM, Mutation

MUTATIONS: tuple[Mutation, ...] = (
    # windows
    Mutation(
        "a shorter message credits nobody",
        "sendqueue.py",
        "        self.credit(0, self.ledger.settle())",
        "        self.ledger.settle()",
    ),
    Mutation(
        "a shorter message does not credit the stream",
        STREAMS,
        "        if not stream.ended:\n            self.requests.credit(stream.id, owed)",
        "",
    ),
    Mutation(
        "a longer message is not withheld",
        "windows.py",
        "        if self.debt <= 0:\n            return increment",
        "        if self.debt <= 10**9:\n            return increment",
    ),
    Mutation(
        "all of upstream's credit is withheld",
        "windows.py",
        "withheld = min(increment, self.debt)",
        "withheld = increment",
    ),
    Mutation(
        "the surplus does not wait for the connection's window",
        "sendqueue.py",
        "room = self._ledger.room",
        "room = 1 << 30",
    ),
    Mutation(
        "the surplus does not wait for the stream's window",
        "sendqueue.py",
        "room = min(room, item.ledger.room)",
        "pass",
    ),
    Mutation(
        "no credit for held bytes of the connection",
        STREAMS,
        "if ledger.seen < GRANT_BELOW_BYTES and ledger.held > ledger.debt:",
        "if False:",
    ),
    Mutation(
        "no credit for held bytes of a stream",
        STREAMS,
        "if credit > 0 and stream.ledger.seen < need - len(stream.gathered):",
        "if False:",
    ),
    Mutation(
        "credit for held bytes is not withheld later",
        "windows.py",
        '"""The writer is given credit for bytes that the reader has not seen."""\n'
        "        self.debt += size",
        '"""The writer is given credit for bytes that the reader has not seen."""',
    ),
    Mutation(
        "withheld credit is not granted again",
        UPSTREAM,
        "        state.grant(opened)\n",
        "",
    ),
    Mutation(
        "padding that is held is not credited",
        STREAMS,
        "        if padding:\n            self.ledger.replace",
        "        if False:\n            self.ledger.replace",
    ),
    Mutation(
        "padding of queued DATA is not credited",
        "direction.py",
        "        self._ledger.replace(padding, 0)",
        "        self._ledger.held -= padding",
    ),
    Mutation(
        "a reset does not give back what was held",
        STREAMS,
        "        self.ledger.replace(len(stream.gathered), 0)\n",
        "        self.ledger.held -= len(stream.gathered)\n",
    ),
    Mutation(
        "DATA that passes is not counted",
        CLIENT,
        "            if not ledger.held and not ledger.debt:\n"
        "                ledger.room -= end - start",
        "            if not ledger.held and not ledger.debt:\n                pass",
    ),
    Mutation(
        "a client may overrun its window",
        STREAMS,
        "if size and size > self.ledger.seen:",
        "if False:",
    ),
    # settings
    Mutation(
        "a smaller initial window counts from the ACK on only",
        "settings.py",
        "min(self._values(frames.SETTINGS_INITIAL_WINDOW_SIZE))",
        "self._acknowledged[frames.SETTINGS_INITIAL_WINDOW_SIZE]",
    ),
    Mutation(
        "a larger initial window counts at once",
        "settings.py",
        "min(self._values(frames.SETTINGS_INITIAL_WINDOW_SIZE))",
        "self._values(frames.SETTINGS_INITIAL_WINDOW_SIZE)[-1]",
    ),
    Mutation(
        "open streams do not follow the initial window",
        STREAMS,
        "            stream.ledger.room += difference\n",
        "            pass\n",
    ),
    Mutation(
        "a held request is stuck below zero",
        STREAMS,
        "                self.grant(stream)  # what fitted",
        "                pass  # what fitted",
    ),
    Mutation(
        "an ACK overtakes queued DATA",
        "direction.py",
        "if queue.blocks_wait or (shrinks and queue.untracked_waits):",
        "if queue.blocks_wait:",
    ),
    Mutation(
        "an ACK overtakes header blocks",
        "direction.py",
        "if queue.blocks_wait or (shrinks and queue.untracked_waits):",
        "if shrinks and queue.untracked_waits:",
    ),
    Mutation(
        "DATA overtakes an ACK",
        "sendqueue.py",
        "(item.untracked is not None and not item.untracked.free)",
        "False",
    ),
    Mutation(
        "the decoder's bound stays at its default",
        "headers.py",
        "self.allowed_bytes = max(self.allowed_bytes, size)",
        "pass",
    ),
)
