"""Rules that bound what a peer can cost, and whom it costs."""

from __future__ import annotations

from tests.mutation.entry import CLIENT, STREAMS, UPSTREAM, Mutation

MUTATIONS: tuple[Mutation, ...] = (
    # a client that gives up calls is borne up to a pace
    Mutation(
        "a reset does not count",
        CLIENT,
        "            state.client.given_up()\n",
        "            pass\n",
    ),
    Mutation(
        "a call that finishes makes up for nothing",
        UPSTREAM,
        "        state.client.finished()\n",
        "",
    ),
    Mutation(
        "what all may give up is not used up",
        "clients.py",
        "        self._left -= taken\n",
        "",
    ),
    Mutation(
        "quiet time is saved up",
        "clients.py",
        "min((now - self._at) * self._per_s, self._before)",
        "(now - self._at) * self._per_s",
    ),
    Mutation(
        "calls that finished are made up for by time as well",
        "clients.py",
        "            self._before = min(self._before, self.owed)\n",
        "",
    ),
    Mutation(
        "each connection is a client of its own",
        "clients.py",
        "        client = self._of.get(pid)\n",
        "        client = None\n",
    ),
    Mutation(
        "a connection that ends gives up nothing",
        "connection.py",
        "            state.client.given_up(len(state.live))\n",
        "            pass\n",
    ),
    Mutation(
        "calls left open do not count",
        "client_to_upstream.py",
        "        state.client.began()\n",
        "        state.client.open += 1\n",
    ),
    Mutation(
        "calls that are over stay open",
        STREAMS,
        "        self.client.over()\n",
        "",
    ),
    Mutation(
        "calls beyond the shares are not paced",
        "clients.py",
        "        if self._common.open > SHARED_OPEN:\n            self.resets.owe()\n",
        "",
    ),
    Mutation(
        "what is open beyond a share is never given back",
        "clients.py",
        "            self._common.open -= 1\n",
        "            pass\n",
    ),
    Mutation(
        "connections of all together have no pace",
        "clients.py",
        "if self.connects.wait_s(now) or not self._common.connects.take_one(now):",
        "if self.connects.wait_s(now):",
    ),
    Mutation(
        "a client with a connection is forgotten",
        "clients.py",
        "            if not client.connections:\n",
        "            if client:\n",
    ),
    Mutation(
        "a list may have any number of fields",
        "headers.py",
        "        if len(fields) > HEADER_FIELDS:\n",
        "        if len(fields) > 1 << 30:\n",
    ),
    Mutation(
        "a long string is decoded at once",
        "headers.py",
        "string.step(BLOCK_PIECE_BYTES)",
        "string.step(1 << 30)",
    ),
    # limits
    Mutation(
        "a header block has no limit",
        "direction.py",
        "if self._size > HEADER_BLOCK_BYTES:",
        "if False:",
    ),
    Mutation(
        "a long header frame is waited for",
        "direction.py",
        "        if size > HEADER_BLOCK_BYTES:",
        "        if False:",
    ),
    Mutation(
        "any number of streams is tracked",
        CLIENT,
        "if len(state.live) + len(state.opened) >= TRACKED_STREAMS:",
        "if False:",
    ),
    Mutation(
        "any number of refused streams is remembered",
        STREAMS,
        "if len(self.refused) > REFUSED_STREAMS:",
        "if False:",
    ),
    Mutation(
        "gzip inflates beyond the limit",
        "messages.py",
        "        if self.size > MESSAGE_BYTES:\n",
        "        if False:\n",
    ),
    Mutation(
        "any encoding is taken for gzip",
        "messages.py",
        'if encoding != b"gzip":',
        "if False:",
    ),
    Mutation(
        "a message may have any length",
        "messages.py",
        "    if length > MESSAGE_BYTES:",
        "    if False:",
    ),
    Mutation(
        "credit is given past the connection's limit",
        STREAMS,
        "if ledger.held > CONNECTION_HELD_BYTES or self.account_held.over:",
        "if self.account_held.over:",
    ),
    Mutation(
        "credit is given past the process's limit",
        STREAMS,
        "if ledger.held > CONNECTION_HELD_BYTES or self.account_held.over:",
        "if ledger.held > CONNECTION_HELD_BYTES:",
    ),
    Mutation(
        "the process's budget is not given back",
        STREAMS,
        "        self.account_held.change(-self.account_held.used)\n",
        "",
    ),
    # shares of budgets, and of the loop's turns
    Mutation(
        "what follows a gzip stream is forgotten",
        "messages.py",
        "if left if inflater.eof else not given and not part:",
        "if not inflater.eof and not given and not part:",
    ),
    Mutation(
        "what inflates too far goes on to the runtime",
        STREAMS,
        "if stream.gathered[0] and error.code == GRPC_RESOURCE_EXHAUSTED:",
        "if False:",
    ),
    Mutation(
        "what inflates is not counted for the process",
        STREAMS,
        "self.ledger.held + self._inflated - self.account_held.used",
        "self.ledger.held - self.account_held.used",
    ),
    Mutation(
        "what has inflated counts for ever",
        STREAMS,
        "        self._inflated -= stream.inflated_bytes\n",
        "",
    ),
    Mutation(
        "a compressed message waits for the end of its stream",
        STREAMS,
        "and (stream.ended or not stream.strict):",
        "and (stream.ended or not (stream.strict or stream.gathered[0])):",
    ),
    Mutation(
        "a known call is let go untold while another is inflated",
        STREAMS,
        "stream not in self.packed:  # nobody knows of those\n"
        "            self.events.append(CallCancelled(stream.id))\n"
        "        if not",
        "not self.packed:\n"
        "            self.events.append(CallCancelled(stream.id))\n"
        "        if not",
    ),
    Mutation(
        "a known call ends untold while another is inflated",
        STREAMS,
        "stream not in self.packed:  # nobody knows of those\n"
        "            self.events.append(CallCancelled(stream.id))\n"
        "        elif",
        "not self.packed:\n            self.events.append(CallCancelled(stream.id))\n        elif",
    ),
    Mutation(
        "a call that is over goes on inflating",
        STREAMS,
        "if stream.phase is not Phase.DECIDING or self.opened.get(stream.id) is not stream:",
        "if False:",
    ),
    Mutation(
        "upstream's windows let a client have more than its share",
        STREAMS,
        "return held > CONNECTION_HELD_BYTES or self.account_held.over",
        "return held > CONNECTION_HELD_BYTES",
    ),
    Mutation(
        "a share is not the connection's own",
        "budget.py",
        "return self.used > budget.share and budget.pooled > budget.limit",
        "return budget.pooled > budget.limit",
    ),
    Mutation(
        "what was refused counts",
        "budget.py",
        "            self.change(-size)\n",
        "",
    ),
    Mutation(
        "a pull waits with all others",
        CLIENT,
        "long=strict or route is Route.LONG",
        "long=strict",
    ),
    Mutation(
        "a chunk's frames have no limit",
        "scanner.py",
        "for _ in repeat(None, frames):",
        "while True:",
    ),
    Mutation(
        "the rest of a chunk goes on unseen",
        "scanner.py",
        "            self._rest, self._at = data, position\n",
        "            self.out.append(data[position:])\n",
    ),
    Mutation(
        "a turn has no end",
        "turns.py",
        "while self._waiting and self._left_s > 0:",
        "while self._waiting:",
    ),
    Mutation(
        "who has begun goes on",
        "turns.py",
        "(began + SLICE_S):\n                self._waiting.append(working)",
        "(began + SLICE_S):\n                self._waiting.appendleft(working)",
    ),
)
