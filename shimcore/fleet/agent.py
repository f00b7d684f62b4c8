"""The loop of one pod: look at node and wish, do the step that follows, report.

The pod may end at any moment, and gives nothing back then: what it had begun is the node's, and the
node's next pod goes on with it.
"""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass, replace
from pathlib import Path

from shimcore.cluster.errors import ClusterError
from shimcore.fleet import report
from shimcore.fleet.bundle import Bundle, old_are_unused, remove_old, unpack
from shimcore.fleet.host import Health, Host
from shimcore.fleet.queue import Queue
from shimcore.fleet.records import REVISION_LABEL, Records
from shimcore.fleet.report import Outlet
from shimcore.fleet.steps import Facts, Step, failed_revision, is_reached, next_step
from shimcore.fleet.values import FleetError, Rollout, Wanted, text_of
from shimcore.switch.exchange import FAILED, Mode, Phase, Revision, State, SwitchRequest

log = logging.getLogger("shimcore.fleet")

_SOON_S = 2.0
_SOAK_LOOK_S = 5.0
_RETRY_S = 10.0
_SILENT_S = 15.0
"""How long after its beginning a switch is to have said something."""
_KNOW_AGAIN_S = 600.0
_REVISION_FILE = "revision"
"""Beside the node's file in the chart's Secret: of which revision it is."""
_DECIDED_BY_HALTS = frozenset({Step.QUEUE, Step.BEGIN, Step.HALTED})


@dataclass(frozen=True, slots=True)
class Settings:
    """What the pod was started with."""

    node: str
    revision: Revision
    bundle: Bundle
    node_file: Path
    """What the node's file is to be, from the chart."""


class Agent:
    """One pod's work."""

    def __init__(
        self, settings: Settings, records: Records, host: Host, queue: Queue, outlet: Outlet
    ) -> None:
        self._settings = settings
        self._records = records
        self._host = host
        self._queue = queue
        self._files = queue.files
        self._outlet = outlet
        self._recorded: Revision | None = None
        self._labels: dict[str, str | None] | None = None
        self._known_at = 0.0
        self._known = Rollout()
        self._halted: frozenset[Revision] = frozenset()
        self._begun: tuple[str, float] | None = None
        self._well_since: float | None = None
        self._unwell_since: float | None = None
        self._unready_before = False
        self._told = ""
        self._old_swept = False

    async def run(self) -> None:
        """Go on until cancelled."""
        fault = ""
        while True:
            try:
                pause_s = await self._turn()
                fault = ""
            except (FleetError, ClusterError) as error:
                if str(error) != fault:
                    log.warning("%s; trying again", error)
                fault = str(error)
                pause_s = max(_RETRY_S, self._queue.pause_s() / 2)
            await asyncio.sleep(pause_s)

    async def _turn(self) -> float:
        """One look and one step; how long to wait before the next."""
        why = self._host.unsupported()
        if why:
            return await self._stand_aside(why)
        state = self._files.state()
        wanted = await self._records.wanted()
        health = await self._look(state, wanted)
        self._outlet.ready(report.is_ready(wanted, self._settings.bundle.version, state, health))
        await self._queue.count()
        await self._queue.recall()
        await self._queue.renew()
        await self._know_node()
        facts = await self._facts(wanted, state, health)
        step = next_step(facts)
        if step in _DECIDED_BY_HALTS:
            self._known = await self._records.rollout()
            self._halted = self._known.halted
            facts = replace(facts, halted=self._halted)
            step = next_step(facts)
        return await self._do(step, facts, health)

    async def _look(self, state: State | None, wanted: Wanted) -> Health | None:
        """How the shim is, where there is one."""
        if state is None or state.phase is not Phase.HEALTHY:
            return None
        return await self._host.health(wire_kubelet=wanted.wire_kubelet)

    async def _know_node(self) -> None:
        """Learn what the node's labels say, now and then: somebody else may change them."""
        if self._labels is None or time.monotonic() - self._known_at > _KNOW_AGAIN_S:
            node = await self._records.node(self._settings.node)
            if node is None:
                raise FleetError(f"the API server knows no node {self._settings.node}")
            self._labels, self._known_at = dict(node.labels), time.monotonic()
            self._recorded = Revision(node.labels.get(REVISION_LABEL, "")) or None
            self._queue.control_plane = node.control_plane

    async def _facts(self, wanted: Wanted, state: State | None, health: Health | None) -> Facts:
        await self._time_wellness(wanted, state, health)
        return Facts(
            pod=self._settings.revision,
            wanted=wanted,
            state=state,
            held=self._queue.held,
            halted=self._halted,
            recorded=self._recorded == wanted.revision,
            drifted=health is Health.UNWIRED,
            begun_s=self._begun_s(state),
            well_s=None if self._well_since is None else _since(self._well_since),
            unwell_s=_since(self._unwell_since),
            unready_before=self._unready_before,
        )

    def _begun_s(self, state: State | None) -> float | None:
        """How long ago the switch was begun whose end is not yet there."""
        running = state is not None and state.phase is Phase.RUNNING
        if self._begun is not None:
            run, at = self._begun
            if state is None or state.run != run or running:
                return time.monotonic() - at
            self._begun = None
        elif running and state is not None:  # by an earlier pod
            self._begun = (state.run, time.monotonic())
        return None

    async def _time_wellness(
        self, wanted: Wanted, state: State | None, health: Health | None
    ) -> None:
        """Time how long the node has been well, while that matters."""
        settled = self._queue.held is None and self._recorded == wanted.revision
        if settled or state is None or not is_reached(wanted, state):
            self._well_since = self._unwell_since = None
            return
        node = await self._records.node(self._settings.node)
        serves, held = health in {Health.HEALTHY, None}, self._queue.held
        well = node is not None and node.ready and serves
        self._unready_before = serves and (held is None or not held.ready)
        now = time.monotonic()
        self._well_since = (self._well_since or now) if well else None
        self._unwell_since = None if well else (self._unwell_since or now)

    # -- the steps

    async def _do(self, step: Step, facts: Facts, health: Health | None) -> float:
        version = self._settings.bundle.version
        unsaid = self._begun is not None and not self._has_said(facts.state)
        await self._label(
            report.node_labels(facts.wanted.mode, version, facts.state, health, begun=unsaid)
        )
        match step:
            case Step.QUEUE:
                return await self._line_up(facts)
            case Step.BEGIN:
                return await self._begin(facts)
            case Step.WATCH:
                await self._notice_silence(facts)
            case Step.SOAK:
                await self._tell_once(facts)
                return _SOAK_LOOK_S
            case Step.RECORD:
                if not await self._host.is_switching():  # it still clears up behind itself
                    await self._record(facts)
            case Step.HALT:
                await self._halt(facts)
            case Step.RELEASE:
                await self._queue.release()
            case Step.REST | Step.STALE | Step.HALTED:
                await self._tell_once(facts)
                await self._queue.release()
                await self._sweep(facts)
                return self._queue.pause_s()
        return _SOON_S

    async def _line_up(self, facts: Facts) -> float:
        if facts.wanted.mode is Mode.INSTALL and self._host.has_package():
            await self._refuse_package(facts)
            return self._queue.pause_s()
        self._node_file(facts.wanted)
        before = facts.state.run if facts.state else ""
        if await self._queue.try_once(facts.wanted, self._known, before):
            return 0.0
        return self._queue.pause_s()

    async def _refuse_package(self, facts: Facts) -> None:
        why = "a package (.deb or .rpm) brought the shim to this node: remove it first"
        state = State(facts.wanted.revision, Phase.REFUSED)
        await self._label(
            report.node_labels(Mode.INSTALL, self._settings.bundle.version, state, None)
        )
        await self._tell("package", "Refused", why, warning=True)

    async def _begin(self, facts: Facts) -> float:
        """Put the bundle on the node and have its switch started."""
        if await self._host.is_switching():
            return _SOON_S
        wanted, bundle = facts.wanted, self._settings.bundle
        run = self._run_name(facts)
        log.info("begins to switch: %s of revision %s", wanted.mode.value, run)
        try:
            await asyncio.to_thread(unpack, bundle, self._host.bundles)
            # Before it begins: who goes away now is not passed over.
            await self._label(
                report.node_labels(wanted.mode, bundle.version, facts.state, None, begun=True)
            )
            if not await self._queue.confirm(wanted):  # unpacking has taken its time
                return _SOON_S
            self._files.ask(self._request(run, wanted))
            await self._host.begin(bundle.version)
        except FleetError as error:
            # With the slot kept and nothing said, everybody would wait for this node.
            await self._stop_all(wanted.revision, f"the switch cannot be started: {error}")
        else:
            self._begun = (run, time.monotonic())
        return _SOON_S

    async def _notice_silence(self, facts: Facts) -> None:
        """Halt for a switch that has ended and left no word."""
        if self._begun is None or facts.begun_s is None or facts.begun_s < _SILENT_S:
            return
        if not self._has_said(facts.state) and not await self._host.is_switching():
            why = "the switch has ended and said nothing: journalctl -u image-cri-shim-switch"
            await self._stop_all(failed_revision(facts), why)
            self._begun = None

    def _has_said(self, state: State | None) -> bool:
        """Whether the switch that was begun has written a word."""
        return self._begun is not None and state is not None and state.run == self._begun[0]

    def _run_name(self, facts: Facts) -> str:
        """A name of its own for each request: what was answered is not asked again."""
        revision = facts.wanted.revision
        if facts.state is None or facts.state.revision != revision:
            return revision
        return f"{revision}.{int(self._records.now.timestamp())}"

    def _request(self, run: str, wanted: Wanted) -> SwitchRequest:
        return SwitchRequest(
            revision=run,
            version=self._settings.bundle.version,
            mode=wanted.mode,
            config=self._node_file(wanted),
            wire_runtime=wanted.wire_runtime,
            wire_kubelet=wanted.wire_kubelet,
            health_s=wanted.health_s,
            at=text_of(self._records.now),
        )

    def _node_file(self, wanted: Wanted) -> str | None:
        """What the node's file is to be; None leaves it as it is."""
        if not wanted.has_node_file or wanted.mode is Mode.REMOVE:
            return None
        path = self._settings.node_file
        try:
            now = path.resolve(strict=True)  # kubelet replaces both files at once, by a link
            content = now.read_text()
            if now.with_name(_REVISION_FILE).read_text().strip() == wanted.revision:
                return content
        except (OSError, UnicodeDecodeError) as error:
            raise FleetError(f"{path}: {error}") from error
        raise FleetError(f"{path}: not yet the file of revision {wanted.revision}")

    async def _record(self, facts: Facts) -> None:
        """Say that the node is well, then let the next one have the slot."""
        revision = facts.wanted.revision
        if facts.wanted.mode is Mode.REMOVE:
            await self._sweep(facts)
            await self._label(report.node_labels(Mode.REMOVE, "", None, None))
        await self._label(report.done_label(revision))
        self._recorded = revision
        await self._records.note_enough(revision)
        await self._tell_once(facts)
        await self._queue.release()

    async def _halt(self, facts: Facts) -> None:
        state = facts.state
        failed = state is not None and state.phase in FAILED
        if failed and state is not None:
            reason = f"{state.phase.value} at {state.step or 'its beginning'}: {state.detail}"
        elif facts.begun_s is not None:
            reason = f"the switch has not ended after {facts.begun_s:.0f} s"
        else:
            reason = "the node is not well after its switch"
        await self._stop_all(failed_revision(facts), reason)
        self._begun = None

    async def _stop_all(self, revision: Revision, reason: str) -> None:
        await self._records.halt(revision, self._settings.node, reason)
        self._halted |= {revision}
        text = f"{reason.rstrip('.')}. Halted: no other node begins revision {revision}"
        await self._tell(f"halt {revision} {reason}", "SwitchFailed", text, warning=True)
        await self._queue.release()

    async def _stand_aside(self, why: str) -> float:
        """Say that the shim does not belong here, and touch nothing."""
        wanted = await self._records.wanted()
        state = State(wanted.revision, Phase.UNSUPPORTED)
        self._outlet.ready(True)
        labels = report.node_labels(Mode.INSTALL, self._settings.bundle.version, state, None)
        await self._label({**labels, **report.done_label(wanted.revision)})
        await self._tell("unsupported", "Unsupported", f"nothing is touched: {why}", warning=False)
        await self._queue.count()
        return self._queue.pause_s()

    async def _sweep(self, facts: Facts) -> None:
        """Take old versions away, and after a removal what was said of it."""
        if facts.state is None:
            return
        if facts.state.phase is Phase.REMOVED and facts.wanted.mode is Mode.REMOVE:
            if not self._files.is_clearing():
                self._files.remove()
        elif facts.state.phase is Phase.HEALTHY and facts.recorded and self._may_sweep_old():
            keep = frozenset({self._settings.bundle.version, facts.state.version or ""})
            self._old_swept = True
            try:
                await asyncio.to_thread(remove_old, self._host.bundles, keep)
            except OSError as error:
                log.warning("%s: %s; old versions stay", error.filename, error.strerror)

    def _may_sweep_old(self) -> bool:
        return not self._old_swept and old_are_unused(self._host.bundles)

    # -- telling

    async def _label(self, labels: dict[str, str | None]) -> None:
        """Have the node carry these labels; nothing is asked where it does."""
        known = self._labels or {}
        new = {name: value for name, value in labels.items() if known.get(name) != value}
        if new:
            await self._records.label(self._settings.node, new)
            self._labels = {**known, **new}

    async def _tell_once(self, facts: Facts) -> None:
        """Tell how a switch ended that this node has a slot for, or had."""
        state = facts.state
        if state is None or facts.held is None or state.phase in FAILED:
            return
        word = "Removed" if state.phase is Phase.REMOVED else "Switched"
        text = f"{word.lower()}: {state.version or 'nothing'} serves, revision {state.run}"
        await self._tell(f"{state.run} {state.phase}", word, text, warning=False)

    async def _tell(self, key: str, reason: str, text: str, *, warning: bool) -> None:
        """Once for each key: an Event on the node, and the pod's termination message."""
        if key == self._told:
            return
        self._told = key
        self._outlet.message(text)
        try:
            await self._records.tell(self._settings.node, reason, text, warning=warning)
        except ClusterError as error:
            log.warning("no Event: %s", error)  # the label says it, too


def _since(at: float | None) -> float:
    return 0.0 if at is None else time.monotonic() - at
