"""Conversations between two real `h2` endpoints through the connection core.

`Conversation(seed).run()` plays one and checks it: what either side got, the events, and
all windows. Everything random comes from the seed.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

import h2.events
import h2.exceptions
from h2.settings import SettingCodes

from tests.support.conversation.checks import check, check_windows
from tests.support.conversation.client import ClientSide
from tests.support.conversation.decisions import Decisions
from tests.support.conversation.server import ServerSide

STEPS = 300
SETTLING_ROUNDS = 20_000


class Conversation(ClientSide, ServerSide, Decisions):
    """A conversation, whose scheduler is the random generator."""

    # -- transport -------------------------------------------------------------------------

    def start(self) -> None:
        for endpoint in (self.client, self.server):
            endpoint.initiate_connection()
        self.collect()

    def move(self, name: str, size: int | None = None) -> bool:
        """Deliver the next bytes of one pipe."""
        pipe = self.pipes[name]
        if not pipe:
            return False
        size = size or self.random.randint(1, self.chunk)
        data = bytes(pipe[:size])
        del pipe[:size]
        if name == "c>r":
            self.feed_client(data)
        elif name == "u>r":
            self.feed_upstream(data)
        elif name == "r>c":
            self.client_events(self.client.receive_data(data))
        else:
            self.server_events(self.server.receive_data(data))
        self.relay_out()
        self.collect()
        return True

    def feed_client(self, data: bytes) -> None:
        """A few frames at a time, and what has happened is seen in between, as by the shell."""
        more = self.core.from_client(data, self.at_once)
        while more or self.core.inflating:
            self.note_untold()
            self.relay_out()
            if self.core.inflating:
                self.core.inflate()
            else:
                more = self.core.more_from_client(self.at_once)

    def note_untold(self) -> None:
        """A call that has gone on while its message is inflated is forgotten at the next piece."""
        for opened in self.core.inflating:
            if not opened.holding:
                self.calls[opened.id].untold = True

    def feed_upstream(self, data: bytes) -> None:
        """Likewise."""
        more = self.core.from_upstream(data, self.at_once)
        while more:
            self.relay_out()
            more = self.core.more_from_upstream(self.at_once)

    # -- windows and settings --------------------------------------------------------------

    def pay(self, side: str, *, everything: bool = False) -> bool:
        """Give window credit back, for all that was read or a part of it."""
        owed = {scope: size for scope, size in self.credit[side].items() if size}
        if not owed:
            return False
        endpoint = self.client if side == "client" else self.server
        scope = self.random.choice(list(owed))
        size = owed[scope] if everything else self.random.randint(1, owed[scope])
        self.credit[side][scope] -= size
        # A stream may be gone, and its window with it.
        with suppress(h2.exceptions.StreamClosedError, KeyError):
            endpoint.increment_flow_control_window(size, scope or None)
        self.collect()
        return True

    def change_settings(self) -> bool:
        """Announce new settings of one side.

        h2 takes an ACK for one of every setting with a value pending, so each frame names
        all, and the first one goes when the initial frame has been acknowledged.
        """
        side = self.random.choice(["client", "server"])
        if not self.settings_seen[side]:
            return False
        values = self.settings[side]
        odd = {
            SettingCodes.INITIAL_WINDOW_SIZE: [10, 100, 1000, 20_480, 65_535, 200_000],
            SettingCodes.HEADER_TABLE_SIZE: [0, 60, 300, 4096, 10_000],
            SettingCodes.MAX_FRAME_SIZE: [16_384, 20_000, 40_000],
        }
        for key, choices in odd.items():
            if self.random.random() < 0.5:
                values[key] = self.random.choice(choices)
        endpoint = self.client if side == "client" else self.server
        endpoint.update_settings(values)
        self.collect()
        return True

    def ping(self) -> bool:
        side = self.random.choice(["client", "server"])
        endpoint = self.client if side == "client" else self.server
        endpoint.ping(self.random.randbytes(8))
        self.pings[side] += 1
        self.collect()
        return True

    # -- the conversation ------------------------------------------------------------------

    def run(self) -> None:
        self.start()
        actions: list[tuple[float, Callable[[], bool]]] = [
            (6, lambda: self.move("c>r")),
            (6, lambda: self.move("r>u")),
            (6, lambda: self.move("u>r")),
            (6, lambda: self.move("r>c")),
            (3, self.new_call),
            (6, self.client_send),
            (4, self.server_send),
            (2, self.decide),
            (2, lambda: self.pay("server")),
            (2, lambda: self.pay("client")),
            (0.05 if self.calm else 0.4, self.change_settings),
            (0.1, self.ping),
            (0.02, self.refuse_unfinished),
            (0.3, self.quiet),
        ]
        steps = self.random.choices([a for _, a in actions], [w for w, _ in actions], k=STEPS)
        for step in steps:
            step()
        self.settle()
        check(self)

    def quiet(self) -> bool:
        """Deliver all that is under way, then compare the windows on both sides."""
        while sum(self.move(name, self.chunk * 50) for name in self.pipes):
            pass
        check_windows(self)
        return True

    def settle(self) -> None:
        """Let everything come to its end, with windows that make it quick."""
        self.quiet()
        for side, endpoint in (("client", self.client), ("server", self.server)):
            values = {**self.settings[side], SettingCodes.INITIAL_WINDOW_SIZE: 65_535}
            endpoint.update_settings(values)
        for _ in range(SETTLING_ROUNDS):
            self.quiet()
            progress = [
                self.new_call(),
                *[self.client_send() for _ in range(4)],
                *[self.server_send() for _ in range(4)],
                self.decide(),
                *[self.pay("server", everything=True) for _ in range(4)],
                *[self.pay("client", everything=True) for _ in range(4)],
            ]
            if not any(progress):
                if self.give_up_rest():
                    continue
                return
        raise AssertionError("the conversation does not come to an end")

    def give_up_rest(self) -> bool:
        """Calls whose other end has nothing to say any more are reset by the client."""
        unfinished = False
        for call in self.calls.values():
            over = call.response_ended or call.response_reset or call.client_reset
            silent = call.request_reset and not call.reply
            if not call.client_done and (call.response_ended or call.client_reset):
                self.client_reset(call)
                unfinished = True
            assert over or silent or call.client_reset, f"a call hangs: {call}"
        return unfinished
