from __future__ import annotations

import asyncio
import logging
import time
from typing import Any, ClassVar

import pytest

from shimcore.config import Fallback, Names
from shimcore.errors import RuntimeUnavailableError
from shimcore.heldcall import Forward
from shimcore.images import sandbox
from shimcore.images.service import ImageService
from shimcore.pb import cri_pb2
from shimcore.registry.answers import Outcome
from shimcore.runtime.errors import StatusCode
from tests.unit.images.fakes import (
    HUB,
    REMOVE,
    Bench,
    FakeRegistries,
    config_of,
    failed,
    pulled_as,
    remove_request,
)

RUN = "/runtime.v1.RuntimeService/RunPodSandbox"
PAUSE = "registry.k8s.io/pause:3.10"
AT_HUB = f"{HUB}/pause:3.10"


def run_request(handler: str = "") -> bytes:
    return cri_pb2.RunPodSandboxRequest(runtime_handler=handler).SerializeToString()


def blank(**changes: Any) -> Bench:
    """A node with nothing on it; the hub has the pause image, and the runtime tells its name."""
    bench = Bench(config=config_of(**changes), registries=FakeRegistries({HUB: Outcome.FOUND}))
    bench.runtime.config = {"sandboxImage": PAUSE}
    return bench


async def run(bench: Bench, handler: str = "", timeout_s: float | None = None) -> None:
    """One RunPodSandbox, which goes on as it came whatever happened."""
    call = bench.service.open(RUN, run_request(handler), timeout_s)
    decision = call.decide_now()
    if decision is None:
        decision = await call.decide()
    assert decision == Forward(None)


async def test_the_pause_image_is_there_before_the_sandbox() -> None:
    """Pulled from the hub, under its own name alone; after that the call is not even opened."""
    bench = blank()
    assert bench.service.opens(RUN)
    await run(bench)
    assert pulled_as(bench) == [AT_HUB]
    assert {name for name in bench.runtime.names() if "@" not in name} == {PAUSE}
    assert not bench.service.opens(RUN)


async def test_its_own_name_whatever_names_say() -> None:
    """The runtime looks for it by that, also where images are to have the registry's alone."""
    bench = blank(names=Names.REGISTRY)
    await run(bench)
    assert {name for name in bench.runtime.names() if "@" not in name} == {PAUSE, AT_HUB}
    assert not bench.service.opens(RUN)


async def test_a_runtime_that_can_name_no_image(caplog: pytest.LogCaptureFixture) -> None:
    """What was pulled is not what it looks for: that is said, and no pull follows at once."""
    bench = blank()
    bench.runtime.has_store = False
    with caplog.at_level(logging.WARNING, logger="shimcore.images"):
        await run(bench)
        await run(bench)
    assert pulled_as(bench) == [AT_HUB]
    said = f"{AT_HUB} is on the node, but the runtime looks for {PAUSE}"
    assert [record.getMessage() for record in caplog.records if said in record.getMessage()]


async def test_one_that_is_there_is_not_pulled() -> None:
    """Nor is any registry asked."""
    bench = blank()
    bench.runtime.pulled(PAUSE)
    await run(bench)
    assert bench.registries.asked == []
    assert not bench.service.opens(RUN)


async def test_many_pods_one_pull() -> None:
    """All wait for the same."""
    bench = blank()
    bench.runtime.pull_s = 0.05
    await asyncio.gather(*(run(bench) for _ in range(20)))
    assert pulled_as(bench) == [AT_HUB]


class TestName:
    async def test_the_configurations(self) -> None:
        """Before what the runtime says."""
        bench = blank(sandbox_image="my.registry/pause:1")
        await run(bench)
        assert pulled_as(bench) == [f"{HUB}/pause:1"]

    async def test_out_of_the_runtimes_configuration(self) -> None:
        """containerd 2.x does not tell it over CRI."""
        bench = blank()
        bench.runtime.config = {}
        bench.runtime.dumped_sandbox_image = PAUSE
        await run(bench)
        assert pulled_as(bench) == [AT_HUB]

    @pytest.mark.parametrize(
        "words",
        [
            f'failed to get sandbox image "{PAUSE}": failed to pull image',
            f'failed to start sandbox "x": failed to pull image "{PAUSE}": no such host',
            'rpc error: code = NotFound desc = failed to start sandbox "6141681be968": '
            f'failed to get sandbox image "{PAUSE}": image "{PAUSE}": not found',
            f'failed to get image "{PAUSE}": not found',
        ],
    )
    async def test_out_of_what_a_failed_sandbox_said(
        self, words: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The first pod fails and tells it; the next one has it."""
        bench = blank(negative_cache_ttl_s=0.0)
        bench.runtime.config = {}
        call = bench.service.open(RUN, run_request(), None)
        await call.decide()
        call.finished(StatusCode.UNKNOWN, True, words)
        assert pulled_as(bench) == []
        await run(bench)
        assert pulled_as(bench) == [AT_HUB]

    @pytest.mark.parametrize(
        "words",
        [
            'failed to setup network for sandbox: failed to parse: failed to pull image "huge:1"',
            'failed to start sandbox "x": open seccomp/failed to get image "huge:1": no such file',
        ],
    )
    async def test_not_out_of_what_a_pod_has_in_it(self, words: str) -> None:
        """Its author may have written the same words into it."""
        bench = blank(negative_cache_ttl_s=0.0)
        bench.runtime.config = {}
        call = bench.service.open(RUN, run_request(), None)
        await call.decide()
        call.finished(StatusCode.UNKNOWN, True, words)
        await run(bench)
        assert pulled_as(bench) == []

    async def test_the_runtimes_configuration_before_what_a_sandbox_said(self) -> None:
        """An error's text is the last that is believed."""
        bench = blank(negative_cache_ttl_s=0.0)
        bench.runtime.config = {}
        call = bench.service.open(RUN, run_request(), None)
        await call.decide()
        call.finished(StatusCode.UNKNOWN, True, 'failed to get sandbox image "huge:1": not found')
        bench.runtime.dumped_sandbox_image = PAUSE
        await run(bench)
        assert pulled_as(bench) == [AT_HUB]


class TestFailsOpen:
    async def test_nobody_is_held_for_a_while_after_a_failure(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        """For `negativeCacheTTL`; and it is said why."""
        bench = blank(fallback=Fallback.DENY, negative_cache_ttl_s=15.0)
        bench.registries.outcomes[HUB] = Outcome.UNREACHABLE
        await run(bench)
        assert not bench.service.opens(RUN)
        assert any(f"{HUB}: unreachable" in one.message for one in caplog.records)

    @pytest.mark.parametrize("name", ["", "a/UPPER", "a b"])
    async def test_a_name_that_is_unknown_or_none(self, name: str) -> None:
        """The call goes on."""
        bench = blank()
        bench.runtime.config = {"sandboxImage": name}
        await run(bench)
        assert pulled_as(bench) == []

    async def test_a_registry_that_fails(self) -> None:
        """The original is not pulled either: that is the runtime's own business."""
        bench = blank()
        bench.runtime.failing[HUB] = failed("500")
        await run(bench)
        assert pulled_as(bench) == [AT_HUB]

    async def test_a_runtime_that_is_silent(self) -> None:
        """At most half of what the caller has, and never a minute."""
        bench = blank()

        async def silent(timeout_s: float | None) -> dict[str, object]:
            await asyncio.Event().wait()
            raise AssertionError

        bench.runtime.settings = silent  # type: ignore[method-assign]
        started = time.monotonic()
        await run(bench, timeout_s=0.2)
        assert time.monotonic() - started < 10

    async def test_a_runtime_that_is_down(self) -> None:
        """The call hears of it from where it comes."""
        bench = blank()

        async def down(timeout_s: float | None) -> dict[str, object]:
            raise RuntimeUnavailableError("down")

        bench.runtime.settings = down  # type: ignore[method-assign]
        bench.runtime.down = True
        await run(bench)

    async def test_a_pull_that_hangs(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Is waited for no longer than HOLD_LIMIT_S, by anybody."""
        monkeypatch.setattr(sandbox, "HOLD_LIMIT_S", 0.1)
        bench = blank()
        bench.runtime.hanging.add(HUB)
        await asyncio.gather(run(bench), run(bench))
        await asyncio.sleep(0.05)
        assert bench.runtime.cancelled == [AT_HUB]

    async def test_a_defect_is_no_reason_to_hold(self, caplog: pytest.LogCaptureFixture) -> None:
        """The log has the traceback."""
        bench = blank()
        bench.runtime.image_status = None  # type: ignore[assignment, method-assign]
        await run(bench)
        assert any(one.levelno == logging.ERROR and one.exc_info for one in caplog.records)


class TestHandlers:
    SETTINGS: ClassVar[dict[str, object]] = {
        "sandboxImage": PAUSE,
        "containerd": {
            "snapshotter": "overlayfs",
            "defaultRuntimeName": "runc",
            "runtimes": {
                "runc": {"snapshotter": "", "sandboxMode": "podsandbox"},
                "kata": {"snapshotter": "", "sandboxer": "shim"},
                "stargz": {"snapshotter": "stargz", "sandboxMode": "podsandbox"},
            },
        },
    }

    async def test_one_without_a_pause_image_is_not_held(self) -> None:
        """And others still are after it."""
        bench = blank()
        bench.runtime.config = self.SETTINGS
        await run(bench, "kata")
        assert pulled_as(bench) == []
        await run(bench, "runc")
        assert pulled_as(bench) == [AT_HUB]

    @pytest.mark.parametrize("handler", ["", "runc", "stargz", "unknown"])
    async def test_any_other_is(self, handler: str) -> None:
        """The default one, one with a snapshotter, and one that nobody has heard of."""
        bench = blank()
        bench.runtime.config = self.SETTINGS
        await run(bench, handler)
        assert pulled_as(bench) == [AT_HUB]


async def test_a_removal_makes_it_uncertain() -> None:
    """The next sandbox is opened and looks."""
    bench = blank()
    await run(bench)
    await bench.decide(REMOVE, remove_request("anything"))
    assert bench.service.opens(RUN)


async def test_a_removal_that_began_before_a_reload() -> None:
    """Its end makes the new configuration look, too."""
    bench = blank()
    removal = bench.service.open(REMOVE, remove_request("sha256:" + "1" * 64), None)
    assert removal.decide_now() == Forward(None)
    bench.service = ImageService(bench.config, bench.registries, bench.runtime, bench.names)
    await run(bench)
    assert not bench.service.opens(RUN)
    removal.finished(0, False, "")
    assert bench.service.opens(RUN)


async def test_knowledge_ages(monkeypatch: pytest.MonkeyPatch) -> None:
    """An image that was removed past the shim is looked for again within a minute."""
    monkeypatch.setattr(sandbox, "KNOWN_S", 0.05)
    bench = blank()
    await run(bench)
    assert not bench.service.opens(RUN)
    await asyncio.sleep(0.06)
    assert bench.service.opens(RUN)
