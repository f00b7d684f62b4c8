"""Work on the side for held calls: bounded in number, cancelled with the caller."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from shimcore.heldcall import Refuse
from shimcore.relay.budget import Account, Budget
from shimcore.relay.messages import GRPC_INTERNAL

if TYPE_CHECKING:
    from shimcore.heldcall import Decision, HeldCall


class Slots:
    """How many decisions may be in work at once, for a connection and for the process.

    `each` is the most for one connection, whose own `share` the others cannot take. A slot
    is free only when its task has really ended. What does not fit waits in order.
    """

    def __init__(self, each: int, limit: int, share: int = 0) -> None:
        self.each = each
        self.budget = Budget(limit, share)
        self._waiting: deque[Worker] = deque()

    @property
    def taken(self) -> int:
        """Decisions in work."""
        return self.budget.used

    def wait(self, worker: Worker) -> None:
        """Call a worker back (`Worker.start_waiting`) when a slot is free."""
        if worker not in self._waiting:
            self._waiting.append(worker)

    def given(self) -> None:
        """A task has ended, and its slot is free."""
        while self._waiting and self.budget.pooled < self.budget.limit:
            self._waiting.popleft().start_waiting()


def undecided(error: Exception) -> Refuse:
    """What becomes of a call whose deciding failed, which is told: of that one alone."""
    asyncio.get_running_loop().call_exception_handler(
        {
            "message": "deciding on an image call failed; please report this defect",
            "exception": error,
        }
    )
    return Refuse(GRPC_INTERNAL, "image-cri-shim: internal error, see its log")


class Worker:
    """The decisions of one connection. `apply` gets each one with its stream, `broken` what keeps
    one from being made or applied."""

    def __init__(
        self,
        slots: Slots,
        apply: Callable[[int, Decision], None],
        broken: Callable[[BaseException], None],
    ) -> None:
        self._slots = slots
        self._account = Account(slots.budget)  # tasks that have not ended, cancelled ones included
        self._apply = apply
        self._broken = broken
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._waiting: dict[int, HeldCall] = {}

    @property
    def busy(self) -> bool:
        """Whether a decision is in work or waits for a slot."""
        return bool(self._account.used or self._waiting)

    def start(self, stream: int, call: HeldCall) -> None:
        """Have a call decided, at once or when a slot is free."""
        self._waiting[stream] = call
        self.start_waiting()

    def start_waiting(self) -> None:
        """Start what waits, as far as there are slots."""
        while self._waiting and self._account.used < self._slots.each:
            if not self._account.take(1):
                self._slots.wait(self)
                return
            stream = next(iter(self._waiting))
            call = self._waiting.pop(stream)
            try:
                task = asyncio.get_running_loop().create_task(self._decide(stream, call))
            except MemoryError as error:
                self._account.change(-1)
                self._broken(error)
                return
            self._tasks[stream] = task
            task.add_done_callback(partial(self._ended, stream))

    async def _decide(self, stream: int, call: HeldCall) -> None:
        try:
            decision = await call.decide()
        except Exception as error:  # noqa: BLE001 - it is told
            decision = undecided(error)
        if self._tasks.get(stream) is asyncio.current_task():
            self._apply(stream, decision)

    def _ended(self, stream: int, task: asyncio.Task[None]) -> None:
        if self._tasks.get(stream) is task:
            del self._tasks[stream]
        self._account.change(-1)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._broken(error)
        self._slots.given()
        self.start_waiting()

    def cancel(self, stream: int) -> None:
        """The call needs no decision any more."""
        self._waiting.pop(stream, None)
        task = self._tasks.pop(stream, None)
        if task is not None:
            task.cancel()

    def cancel_all(self) -> None:
        """The connection is over."""
        self._waiting.clear()
        for stream in list(self._tasks):
            self.cancel(stream)

    def let_go(self) -> None:
        """Hold nothing of the connection any more, which holds this."""
        self._apply = self._broken = _nothing


def _nothing(*_: object) -> None:
    pass
