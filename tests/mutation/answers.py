"""Rules of what the relay says itself in place of upstream."""

from __future__ import annotations

from tests.mutation.entry import ANSWERS, CLIENT, STREAMS, UPSTREAM, Mutation

MUTATIONS: tuple[Mutation, ...] = (
    # refuse
    Mutation(
        "upstream is not reset",
        STREAMS,
        "            self.to_upstream.inject(reset)",
        "            pass",
    ),
    Mutation(
        "a reset goes before the HEADERS that wait",
        STREAMS,
        "        if self.queue.waits(stream.id):\n            self.queue.add_frame",
        "        if False:\n            self.queue.add_frame",
    ),
    Mutation(
        "late header blocks are dropped, whatever they change",
        UPSTREAM,
        "        if self._block_changed or not late:",
        "        if not late:",
    ),
    Mutation(
        "late header blocks are forwarded, whatever they change",
        UPSTREAM,
        "        if self._block_changed or not late:",
        "        if True:",
    ),
    Mutation(
        "late DATA reaches the client",
        UPSTREAM,
        "        if state.refused and stream in state.refused:\n"
        "            return self._refused_data",
        "        if False:\n            return self._refused_data",
    ),
    Mutation(
        "late DATA is not credited to upstream",
        UPSTREAM,
        "        self._flow.drop(end - start)\n",
        "",
    ),
    Mutation(
        "a refusal indexes its fields",
        "frames.py",
        'return b"\\x00" + _string(name) + _string(value)',
        'return b"\\x40" + _string(name) + _string(value)',
    ),
    Mutation(
        "a refusal's text is not encoded",
        "frames.py",
        'safe=" !\\"#$&',
        'safe=" %!\\"#$&',
    ),
    Mutation(
        "a refusal ignores what upstream has answered",
        ANSWERS,
        "return opened.answered or passing is not None",
        "return passing is not None",
    ),
    Mutation(
        "a refusal ignores a block that is on its way",
        ANSWERS,
        "return opened.answered or passing is not None",
        "return opened.answered",
    ),
    Mutation(
        "a call is ended twice",
        ANSWERS,
        "        if passing is not None and passing & frames.END_STREAM:\n",
        "        if False:\n",
    ),
    Mutation(
        "the owed size update is left out",
        UPSTREAM,
        "        self.decoder.resize(smallest)\n        return frames.size_update(smallest)",
        '        return b""',
    ),
    Mutation(
        "the owed size update is the last one",
        UPSTREAM,
        "            size = min(size, smallest)",
        "            pass",
    ),
    Mutation(
        "the client's late DATA is not credited",
        CLIENT,
        "        state.ledger.replace(end - start, 0)\n",
        "        state.ledger.held -= end - start\n",
    ),
    # answer
    Mutation(
        "an answer is no debt",
        ANSWERS,
        "        replies.ledger.replace(0, size)",
        "        replies.ledger.held += size",
    ),
    Mutation(
        "the client's credit is not withheld",
        CLIENT,
        "        passed = ledger.update(increment)",
        "        ledger.update(increment)\n        passed = increment",
    ),
    Mutation(
        "all of the client's credit is withheld",
        CLIENT,
        "        replies.credit(0, passed)\n",
        "",
    ),
    Mutation(
        "the client's credit is not counted",
        CLIENT,
        "        if not ledger.held and not ledger.debt:\n            ledger.room += increment\n",
        "        if not ledger.held and not ledger.debt:\n",
    ),
    Mutation(
        "the client's credit moves nothing",
        CLIENT,
        "        replies.queue.flush()\n        if passed",
        "        if passed",
    ),
    Mutation(
        "the client's credit for an answered stream moves nothing",
        CLIENT,
        "            state.replies.queue.flush()\n        elif waits",
        "            pass\n        elif waits",
    ),
    Mutation(
        "the client's credit for an opened stream is not counted",
        CLIENT,
        "            opened.reply.room += increment\n",
        "            pass\n",
    ),
    Mutation(
        "the client's credit for an answered stream goes on",
        CLIENT,
        "        if stream in state.refused or (opened is not None",
        "        if waits and (opened is not None",
    ),
    Mutation(
        "replies that pass are not counted",
        UPSTREAM,
        "        else:\n            ledger.room -= end - start\n            verdict = PASS",
        "        else:\n            verdict = PASS",
    ),
    Mutation(
        "replies of opened calls are not counted",
        UPSTREAM,
        "        else:\n            ledger.room -= end - start\n        if verdict",
        "        if verdict",
    ),
    Mutation(
        "replies of opened calls are not counted for their stream",
        UPSTREAM,
        "        opened.reply.room -= end - start\n",
        "",
    ),
    Mutation(
        "upstream's DATA overruns the client's window after an answer",
        UPSTREAM,
        "        elif ledger.held or ledger.debt:",
        "        elif False:",
    ),
    Mutation(
        "upstream's DATA of an opened call overruns the client's window after an answer",
        UPSTREAM,
        "        if ledger.held or ledger.debt:\n            verdict",
        "        if False:\n            verdict",
    ),
    Mutation(
        "upstream may overrun the window that it sees",
        UPSTREAM,
        "if size and size > self._ledger.seen:",
        "if False:",
    ),
    Mutation(
        "upstream's header blocks overtake its DATA",
        UPSTREAM,
        "            self._keep_block |= queue.blocks_wait or queue.waits(stream)\n",
        "",
    ),
    Mutation(
        "upstream's resets overtake its DATA",
        UPSTREAM,
        "        if self._ledger.held and queue.waits(stream):",
        "        if False:",
    ),
    Mutation(
        "padding of DATA that waits is not credited to its stream",
        "direction.py",
        "            self._flow.credit(stream, padding)",
        "            pass",
    ),
    Mutation(
        "an answer's trailers go before its DATA",
        ANSWERS,
        "        replies.queue.add_last(stream, partial(self._trailers, stream), "
        "partial(self._sent, opened))",
        "        self._state.to_client.inject(self._trailers(stream))\n        self._sent(opened)",
    ),
    Mutation(
        "an answer's trailers keep other streams' blocks waiting",
        "sendqueue.py",
        '        self._add(stream, _Whole(b"", in_order=False, make=make, sent=sent))',
        "        self._order.append(stream)\n"
        "        self._add(stream, _Whole(make(), in_order=True, sent=sent))",
    ),
    Mutation(
        "an answer's trailers forget the owed size update",
        ANSWERS,
        "return frames.trailers(stream, self._side.owed_size_update())",
        "return frames.trailers(stream)",
    ),
    Mutation(
        "an answer forgets the owed size update",
        ANSWERS,
        "block = frames.response(stream, self._side.owed_size_update())",
        "block = frames.response(stream)",
    ),
    Mutation(
        "an ACK that waits is owed nothing",
        UPSTREAM,
        "size = self._reader_settings.ack_arrives(frames.SETTINGS_HEADER_TABLE_SIZE)",
        "size = self._reader_settings.loosest(frames.SETTINGS_HEADER_TABLE_SIZE)",
    ),
    Mutation(
        "a second response",
        ANSWERS,
        "        if not answered:\n",
        "        if True:\n",
    ),
    Mutation(
        "an answer goes on with upstream's own",
        ANSWERS,
        "        if opened.answer:\n",
        "        if False:\n",
    ),
    Mutation(
        "a reset leaves an answer waiting",
        CLIENT,
        "            self.drop_answer(opened)\n",
        "            pass\n",
    ),
    Mutation(
        "a reset leaves upstream's DATA waiting",
        CLIENT,
        "            state.replies.drop_queued(stream)\n",
        "            pass\n",
    ),
    Mutation(
        "a reset of an answered call goes on",
        CLIENT,
        "            return TAKE  # upstream has had a reset already",
        "            return PASS",
    ),
    Mutation(
        "dropped replies are not given back",
        "sendqueue.py",
        "        self.ledger.replace(self.queue.drop_data(stream), 0)\n",
        "        self.ledger.held -= self.queue.drop_data(stream)\n",
    ),
    Mutation(
        "late DATA gets into an answer",
        UPSTREAM,
        "        if opened.answering:\n            return self._refused_data",
        "        if False:\n            return self._refused_data",
    ),
    Mutation(
        "upstream's end ends an answer that waits",
        UPSTREAM,
        "        if opened is not None and opened.answering:\n            return\n",
        "",
    ),
    Mutation(
        "replies' windows do not follow the client's initial window",
        STREAMS,
        "            stream.reply.room += difference\n",
        "            pass\n",
    ),
    Mutation(
        "an answer does not follow a larger initial window",
        STREAMS,
        "            self.replies.queue.flush()\n",
        "            pass\n",
    ),
    Mutation(
        "answers that wait are not bounded in bytes",
        ANSWERS,
        "if replies.ledger.debt + size > ANSWER_BYTES or self._waiting >= ANSWERS_WAITING:",
        "if self._waiting >= ANSWERS_WAITING:",
    ),
    Mutation(
        "answers that wait are not bounded in number",
        ANSWERS,
        "if replies.ledger.debt + size > ANSWER_BYTES or self._waiting >= ANSWERS_WAITING:",
        "if replies.ledger.debt + size > ANSWER_BYTES:",
    ),
    Mutation(
        "what waits behind answers is not bounded",
        UPSTREAM,
        "if self._ledger.held + size > REPLY_BYTES:",
        "if False:",
    ),
    Mutation(
        "refusals behind an answer are not bounded",
        "connection.py",
        "            state.replies.queue.check()  # what",
        "            pass  # what",
    ),
)
