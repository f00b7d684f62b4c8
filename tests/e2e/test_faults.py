"""Registries that fail, one fault at a time: how long until the image is there, and from where."""

from __future__ import annotations

import itertools
import re
import shlex
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import grpc
import pytest

from tests.e2e.conftest import HUB_LOGIN, MIRROR_LOGIN, TOKEN_LOGIN, Shims
from tests.e2e.support import images
from tests.e2e.support.authority import issue_certificate
from tests.e2e.support.cri_client import CallError, CriClient
from tests.e2e.support.process import wait_for
from tests.e2e.support.recorder import Recorder, SilentListener
from tests.e2e.support.registry import Registry
from tests.e2e.support.report import FAULTS, Fault
from tests.e2e.support.shim import Shim

pytestmark = pytest.mark.e2e

RETRY_S = 0.3
_serial = itertools.count(1)


@dataclass
class Bench:
    """A hub and a mirror (https, private CA) that both have an image, and what came of pulls."""

    shims: Shims
    registry: Registry
    mirror: Registry
    node: CriClient

    def config(self, hub: str, *, auth: str = HUB_LOGIN, **more: Any) -> dict[str, Any]:
        """The hub at that address, the mirror below it; probeTimeout is its default, 3 s."""
        return {"address": hub, "auth": auth, "registries": [self.mirror_entry()], **more}

    def mirror_entry(self) -> dict[str, Any]:
        assert self.mirror.certificate is not None
        ca = str(self.mirror.certificate.ca)
        return {"address": self.mirror.address, "auth": MIRROR_LOGIN, "caFile": ca}

    def push(self, *registries: Registry) -> tuple[str, images.Image]:
        """A new image on these registries (both by default): its short name, itself."""
        name = f"fault-{next(_serial)}"
        image = images.small(name, 50_000)
        for registry in registries or (self.registry, self.mirror):
            registry.push(image, f"library/{name}", "1")
        return f"{name}:1", image

    def until_there(self, fault: str, shim: Shim, image: str, tries: int = 3) -> tuple[str, float]:
        """Pulls as kubelet does, again after a failure: (host that was asked, seconds).

        Adds its row to the table of faults.
        """
        saw: list[str] = []
        started = time.monotonic()
        with CriClient(shim.socket) as client:
            while True:
                try:
                    client.pull(image)
                    break
                except CallError as error:
                    saw.append(error.code.name)
                    if len(saw) == tries:
                        pytest.fail(f"{error}\n{shim.tail()}")
                    time.sleep(RETRY_S)
            assert client.image_status(image) is not None
        took_s = time.monotonic() - started
        FAULTS.append(Fault(fault, took_s, self.asked_for(image), ", then ".join([*saw, "OK"])))
        return self.asked_for(image).partition("/")[0], took_s

    def asked_for(self, image: str) -> str:
        """The name that the last pull of an image which went well had for the runtime."""
        return self.line(image, "outcome=pulled")["name"]

    def line(self, image: str, *words: str) -> dict[str, str]:
        """The values of the shim's last line about a pull of an image, with these words in it.

        It is written after the answer, when the bytes have been counted.
        """
        found: list[str] = []

        def look() -> bool:
            for shim in self.shims.started:
                for line in shim.text().splitlines():
                    if f"call=PullImage image={image} " in line and all(w in line for w in words):
                        found.append(line)
            return bool(found)

        wait_for(f"the line about {image}", look, 15)
        pairs = (word.partition("=") for word in shlex.split(found[-1]) if "=" in word)
        return {key: value for key, _, value in pairs}

    def fails(self, fault: str, shim: Shim, image: str) -> CallError:
        """The error of one pull that has to fail; its row goes into the table."""
        started = time.monotonic()
        with CriClient(shim.socket) as client, pytest.raises(CallError) as caught:
            client.pull(image, username="me", password="secret")
        took_s = time.monotonic() - started
        FAULTS.append(Fault(fault, took_s, "—", caught.value.code.name))
        return caught.value


@pytest.fixture
def bench(shims: Shims, registry: Registry, mirror: Registry, node_client: CriClient) -> Bench:
    if not registry.running:
        registry.serve()
    return Bench(shims, registry, mirror, node_client)


def test_no_fault(bench: Bench) -> None:
    """The hub has the image: it comes from there, in one go."""
    shim = bench.shims.serve(bench.config(bench.registry.address))
    image, _ = bench.push()
    assert bench.until_there("none", shim, image, tries=1)[0] == bench.registry.host


@pytest.mark.releases
def test_the_hub_is_down(bench: Bench) -> None:
    """Connection refused: the same call gets the image from the mirror."""
    image, _ = bench.push()
    shim = bench.shims.serve(bench.config(bench.registry.address))
    bench.registry.stop()
    host, took_s = bench.until_there("hub down", shim, image, tries=1)
    assert host == bench.mirror.host
    assert took_s < 10


def test_the_hub_goes_down(bench: Bench) -> None:
    """A hub that served the last pull is killed: the next image comes from the mirror."""
    before, _ = bench.push()
    image, _ = bench.push()
    shim = bench.shims.serve(bench.config(bench.registry.address))
    assert bench.until_there("none (before the kill)", shim, before)[0] == bench.registry.host
    bench.registry.kill()
    host, took_s = bench.until_there("hub killed after a good pull", shim, image)
    assert host == bench.mirror.host
    assert took_s < 10


def test_the_hub_hangs(bench: Bench) -> None:
    """A hub that accepts and never answers costs no more than probeTimeout, and then nothing."""
    silent = SilentListener()
    try:
        shim = bench.shims.serve(bench.config(f"http://{silent.host}"))
        image, _ = bench.push()
        host, took_s = bench.until_there("hub hung", shim, image, tries=1)
        assert host == bench.mirror.host
        assert took_s < 12
    finally:
        silent.close()


def test_a_dead_hub_stops_costing(bench: Bench) -> None:
    """Behind a hub that hangs, the breaker opens: a later image waits for no probeTimeout."""
    silent = SilentListener()
    try:
        shim = bench.shims.serve(bench.config(f"http://{silent.host}", probeTimeout="10s"))
        for _ in range(6):
            image, _ = bench.push()
            with CriClient(shim.socket) as client:
                client.pull(image)
        image, _ = bench.push()
        _, took_s = bench.until_there("hub hung, seventh image (breaker open)", shim, image)
        assert took_s < 8
    finally:
        silent.close()


@pytest.mark.releases
def test_the_hub_lost_a_blob(bench: Bench) -> None:
    """The manifest is there, a layer is not: the same call gets it from the mirror."""
    image, built = bench.push()
    bench.registry.lose_blob(built.layers[0].digest)
    shim = bench.shims.serve(bench.config(bench.registry.address))
    assert bench.until_there("hub without the blob", shim, image, tries=1)[0] == bench.mirror.host


@pytest.mark.releases
def test_a_proven_hub_lost_a_blob(bench: Bench) -> None:
    """A hub that has just worked is not trusted: the same call gets the image from the mirror."""
    before, _ = bench.push()
    image, built = bench.push()
    bench.registry.lose_blob(built.layers[0].digest)
    shim = bench.shims.serve(bench.config(bench.registry.address))
    with CriClient(shim.socket) as client:
        client.pull(before)
    fault = "hub without the blob, after a good pull"
    assert bench.until_there(fault, shim, image, tries=1)[0] == bench.mirror.host


@pytest.mark.releases
def test_a_wrong_password(bench: Bench) -> None:
    """The hub refuses the login: the image comes from the mirror."""
    image, _ = bench.push()
    config = bench.config(bench.registry.address, auth="hub-user:wrong")
    shim = bench.shims.serve(config)
    assert bench.until_there("wrong password", shim, image, tries=1)[0] == bench.mirror.host


@pytest.mark.releases
def test_a_wrong_ca(bench: Bench) -> None:
    """A certificate that is not trusted is a failure like any other, not a way in."""
    image, _ = bench.push()
    other = issue_certificate(bench.shims.directory / "other-pki")
    mirror = {**bench.mirror_entry(), "caFile": str(other.ca)}
    hub = {"address": bench.registry.address, "auth": HUB_LOGIN}
    shim = bench.shims.serve({**hub, "registries": [{**mirror, "priority": 2000}]})
    fault = "better registry with an untrusted certificate"
    assert bench.until_there(fault, shim, image, tries=1)[0] == bench.registry.host


@pytest.mark.releases
@pytest.mark.parametrize("status", [500, 503, 429])
def test_the_hub_answers_with_an_error(status: int, bench: Bench, hub: Recorder) -> None:
    """5xx and 429 move on to the mirror within the call."""
    image, _ = bench.push()
    shim = bench.shims.serve(bench.config(hub.address))
    hub.fault = status
    assert bench.until_there(f"hub answers {status}", shim, image, tries=1)[0] == bench.mirror.host


@pytest.mark.releases
def test_the_hub_fails_at_blobs(bench: Bench, hub: Recorder) -> None:
    """A manifest that is answered and layers that get 503: the mirror, within the call."""
    image, _ = bench.push()
    shim = bench.shims.serve(bench.config(hub.address))
    hub.fault, hub.fault_prefix = 503, f"/v2/library/{image.partition(':')[0]}/blobs/"
    fault = "hub answers 503 to layers"
    assert bench.until_there(fault, shim, image, tries=1)[0] == bench.mirror.host


@pytest.mark.releases
def test_an_expired_token(bench: Bench, token_registry: Registry) -> None:
    """A token that the registry no longer takes is fetched anew within the question."""
    tokens = token_registry.tokens
    assert tokens is not None
    name = f"fault-{next(_serial)}"
    for tag in ("1", "2"):
        token_registry.push(images.small(f"{name}-{tag}"), f"library/{name}", tag)
    shim = bench.shims.serve(bench.config(token_registry.address, auth=TOKEN_LOGIN))
    tokens.valid_for_s = 2
    try:
        with CriClient(shim.socket) as client:
            client.pull(f"{name}:1")
        time.sleep(tokens.valid_for_s + 1.5)
        host, _ = bench.until_there("expired token", shim, f"{name}:2", tries=1)
        assert host == token_registry.host
    finally:
        tokens.valid_for_s = 300


def test_a_hub_behind_tokens_with_a_wrong_password(bench: Bench, token_registry: Registry) -> None:
    """The token server refuses the login: the image comes from the mirror."""
    image, _ = bench.push(token_registry, bench.mirror)
    shim = bench.shims.serve(bench.config(token_registry.address, auth="token-user:wrong"))
    fault = "wrong password at the token server"
    assert bench.until_there(fault, shim, image, tries=1)[0] == bench.mirror.host


def test_a_recovered_hub(bench: Bench) -> None:
    """Once the hub is back, new images come from it again within seconds."""
    tries = [bench.push()[0] for _ in range(40)]
    shim = bench.shims.serve(bench.config(bench.registry.address))
    bench.registry.stop()
    for image in tries[:3]:
        assert bench.until_there("hub down (to recover)", shim, image)[0] == bench.mirror.host
    bench.registry.serve()
    started = time.monotonic()
    with CriClient(shim.socket) as client:
        for image in tries[3:]:
            client.pull(image)
            asked = bench.asked_for(image)
            if asked.startswith(bench.registry.host):
                break
            time.sleep(0.5)
    took_s = time.monotonic() - started
    assert asked.startswith(bench.registry.host)
    FAULTS.append(Fault("recovered hub (until it is used again)", took_s, asked, "OK"))
    assert took_s < 15


@pytest.mark.releases
def test_nobody_can_be_asked(bench: Bench, public: Recorder) -> None:
    """With every registry down the original name is tried; the error is the runtime's.

    After its words stands what each registry said.
    """
    image, _ = bench.push()
    shim = bench.shims.serve(bench.config(bench.registry.address))
    bench.registry.stop()
    bench.mirror.stop()
    error = bench.fails("all registries down", shim, image)
    assert error.code is grpc.StatusCode.NOT_FOUND
    words, _, reasons = error.details.partition("; image-cri-shim: ")
    assert "docker.io/library/" in words
    assert re.fullmatch(
        f"{bench.registry.host}: unreachable .*refused.*; {bench.mirror.host}: unreachable .*",
        reasons,
    )
    line = bench.line(image, "outcome=failed(5)")
    assert reasons in line["why"]
    assert public.seen


@pytest.mark.releases
def test_fallback_deny(bench: Bench, public: Recorder) -> None:
    """deny never lets the original name out; the refusal names each registry and its reason."""
    image, _ = bench.push()
    config = bench.config(bench.registry.address, fallback="deny")
    shim = bench.shims.serve(config)
    bench.registry.stop()
    error = bench.fails("hub down, mirror without the image, deny", shim, "team/nowhere:1")
    assert bench.registry.host in error.details
    assert bench.mirror.host in error.details
    bench.mirror.stop()
    error = bench.fails("all registries down, deny", shim, image)
    assert bench.registry.host in error.details
    assert bench.mirror.host in error.details
    assert public.seen == []


@pytest.mark.releases
def test_the_callers_deadline(bench: Bench) -> None:
    """A caller's deadline ends a pull that waits for a hub that hangs, and what it had begun."""
    silent = SilentListener()
    try:
        shim = bench.shims.serve({"address": f"http://{silent.host}", "probeTimeout": "30s"})
        started = time.monotonic()
        with CriClient(shim.socket) as client, pytest.raises(CallError) as caught:
            client.pull("nginx:latest", timeout_s=1)
        took_s = time.monotonic() - started
        assert caught.value.code is grpc.StatusCode.DEADLINE_EXCEEDED
        assert took_s < 10
        FAULTS.append(
            Fault("hub hung, caller gives up after 1 s", took_s, "—", "DEADLINE_EXCEEDED")
        )
    finally:
        silent.close()


@pytest.mark.releases
def test_a_restart_with_everything_down(bench: Bench, via_crictl: Callable[[Shim], Any]) -> None:
    """What was pulled is found by a new shim with all registries down, without waiting."""
    image, _ = bench.push()
    config = bench.config(bench.registry.address)
    shim = bench.shims.serve(config)
    bench.until_there("none (before the restart)", shim, image)
    shim.kill()
    assert f"docker.io/library/{image}" in bench.node.store()
    bench.registry.stop()
    bench.mirror.stop()
    after = bench.shims.serve(config)
    started = time.monotonic()
    assert via_crictl(after).inspecti(image) is not None
    assert time.monotonic() - started < 10
