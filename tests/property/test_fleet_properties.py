"""A roll-out under anything: pods that end, switches that fail, an API server that is away."""

from __future__ import annotations

import asyncio
import os
import tempfile
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from shimcore.cluster.errors import ClusterError
from shimcore.fleet import api as client
from shimcore.fleet import slots, steps
from shimcore.fleet.agent import Agent
from shimcore.fleet.host import Done
from shimcore.fleet.slots import ENOUGH_WELL, LEASE_S, width
from shimcore.fleet.values import FleetError
from tests.support.fleetapi import FleetApi
from tests.support.fleetnode import FleetNode, ScriptedSwitch

WAVE = 40
SHIM = "/var/run/image-cri-shim.sock"
numbers = st.integers(0, 5)


class Switch(ScriptedSwitch):
    """A switch that ends when the machine says so."""

    is_running = False

    async def run(self, *words: str) -> Done:
        if words[0] != "systemd-run" and words[-1] == "image-cri-shim-switch.service":
            return Done(0, "active\n" if self.is_running else "inactive\n")
        done = await super().run(*words)
        if self.running is not None:
            self.running.cancel()
            self.running = None
            self.is_running = True
            self.say(self.began[-1], "running")
        return done

    def wire(self, endpoint: str) -> None:
        """Write kubelet's file."""
        path = self.root / "var/lib/kubelet/config.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"containerRuntimeEndpoint: unix://{endpoint}\n")

    def end(self, phase: str) -> None:
        """It has come to this."""
        self.is_running = False
        if phase == "healthy":
            self.service = "active"
            self.wire(SHIM)
        self.say(self.began[-1], phase)


class Rollout(RuleBasedStateMachine):
    """Six nodes, the first a control plane; every rule is one thing that may happen at any time."""

    @initialize()
    def begin(self) -> None:
        # In memory where there is such a place: each step of a node is put on disk at once.
        place = "/dev/shm" if os.path.isdir("/dev/shm") else None
        self.folder = tempfile.TemporaryDirectory(dir=place)
        self.runner = asyncio.Runner()
        self.patch = pytest.MonkeyPatch()
        self.patch.setattr(client, "_FIRST_WAIT_S", 0.0)
        self.patch.setattr(slots, "STILL_S", 0.0)
        self.api = FleetApi()
        self.api.prepare(wave=str(WAVE))
        self.revision = 1
        self.nodes = [
            FleetNode(Path(self.folder.name), f"n{number}", self.api, control_plane=number == 0)
            for number in range(6)
        ]
        for node in self.nodes:
            node.switch = Switch(node.root)
        self.agents: list[Agent] = [node.agent("r1") for node in self.nodes]
        self.failed: dict[str, set[str]] = {}

    # -- what may happen

    @rule(number=numbers, turns=st.integers(1, 6))
    def a_pod_goes_on(self, number: int, turns: int) -> None:
        for _ in range(turns):
            self._turn(number)

    @rule(number=numbers)
    def a_pod_is_replaced(self, number: int) -> None:
        self.agents[number] = self.nodes[number].agent(f"r{self.revision}")

    @rule(number=numbers)
    def a_switch_succeeds(self, number: int) -> None:
        if self._switch(number).is_running:
            self._switch(number).end("healthy")

    @rule(number=numbers)
    def a_switch_fails(self, number: int) -> None:
        switch = self._switch(number)
        if switch.is_running:
            switch.end("undone")
            revision = switch.began[-1]["revision"].partition(".")[0]
            self.failed.setdefault(revision, set()).add(self.nodes[number].name)

    @rule(
        number=numbers,
        after=st.integers(1, 12),
        code=st.sampled_from([403, 404, 409, 410, 500]),
        lost=st.booleans(),
    )
    def the_api_server_fails_once(self, number: int, after: int, code: int, lost: bool) -> None:
        left = [after]

        def fault(method: str, path: str) -> int | None:
            left[0] -= 1
            return code if left[0] == 0 else None

        self.api.fault, self.api.lost = fault, lost
        self._turn(number)
        self.api.fault, self.api.lost = lambda method, path: None, False

    @rule(number=numbers)
    def the_wiring_is_lost(self, number: int) -> None:
        """As by `kubeadm upgrade`."""
        self._switch(number).wire("/run/containerd/containerd.sock")

    @rule()
    def the_wish_changes(self) -> None:
        """Pods stay of the old revision until they are replaced."""
        self.revision += 1
        self.api.want(f"r{self.revision}", wave=str(WAVE))

    @rule()
    def a_long_time_passes(self) -> None:
        """No switch takes so long: those that are under way have ended."""
        if not any(self._switch(number).is_running for number in range(6)):
            self.api.offset += timedelta(seconds=LEASE_S + 1)

    # -- what always holds

    @invariant()
    def no_more_than_have_a_slot_switch(self) -> None:
        running = [number for number in range(6) if self._switch(number).is_running]
        holders = self.api.holders()
        for number in running:
            assert self.nodes[number].name in holders.values()
        by_revision: dict[str, int] = {}
        for number in running:
            revision = self._switch(number).began[-1]["revision"].partition(".")[0]
            by_revision[revision] = by_revision.get(revision, 0) + 1
        for revision, count in by_revision.items():
            enough = self._well(revision) >= ENOUGH_WELL
            assert count <= width(6, WAVE, enough=enough)

    @invariant()
    def a_failure_is_the_last_of_its_slot(self) -> None:
        """With fewer than three well, a revision that failed anywhere is begun by nobody else."""
        for revision, names in self.failed.items():
            if self._well(revision) >= ENOUGH_WELL:
                continue
            began = {
                node.name
                for node in self.nodes
                for request in node.switch.began
                if request["revision"].partition(".")[0] == revision
                and node.labels.get("revision") != revision
            }
            assert began <= names | {n.name for n in self.nodes if self._is_healthy(n, revision)}

    @invariant()
    def control_planes_come_last(self) -> None:
        for request in self.nodes[0].switch.began:
            revision = request["revision"].partition(".")[0]
            if revision == f"r{self.revision}":
                assert all(n.labels.get("revision") == revision for n in self.nodes[1:])

    def teardown(self) -> None:
        """Left alone, it comes to an end: every node is well, or the revision is halted."""
        if not hasattr(self, "runner"):
            return
        try:
            with self.folder, self.runner:
                self._come_to_an_end()
        finally:
            self.patch.undo()

    def _come_to_an_end(self) -> None:
        for number in range(6):
            self.a_pod_is_replaced(number)
        self.a_long_time_passes()
        self.patch.setattr(steps, "PATIENCE_S", 0.0)
        for _ in range(60):
            for number in range(6):
                self._turn(number)
                self.a_switch_succeeds(number)
            if self._is_settled():
                break
        assert self._is_settled()

    # -- helpers

    def _turn(self, number: int) -> None:
        with suppress(FleetError, ClusterError):
            self.runner.run(self.agents[number]._turn())

    def _switch(self, number: int) -> Switch:
        switch = self.nodes[number].switch
        assert isinstance(switch, Switch)
        return switch

    def _is_settled(self) -> bool:
        revision = f"r{self.revision}"
        halted = self.api.halted()
        ended = self._well(revision) == 6 or revision in halted
        # A slot that could not be freed is told of in a halt.
        told = [any(name in why for why in halted.values()) for name in self.api.holders().values()]
        return ended and all(told)

    def _well(self, revision: str) -> int:
        return sum(node.labels.get("revision") == revision for node in self.nodes)

    def _is_healthy(self, node: FleetNode, revision: str) -> bool:
        request = node.switch.began[-1] if node.switch.began else {}
        return node.switch.service == "active" and request.get("revision") == revision


TestRollout = Rollout.TestCase
# In CI the same ones each time: what chance finds is looked into where it was found.
TestRollout.settings = settings(
    max_examples=5,
    stateful_step_count=30,
    derandomize="CI" in os.environ,
)
