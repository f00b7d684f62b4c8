from __future__ import annotations

import asyncio
import logging
import subprocess
import sys
import time

import pytest

from shimcore.config import Fallback
from shimcore.heldcall import AS_IT_CAME, Forward, Refuse
from shimcore.images.attempts import Attempt, Result
from shimcore.images.call import Verdict, decision_line
from shimcore.images.messages import ImageRequest
from shimcore.images.wording import (
    REASON_LIMIT,
    REASONS_LIMIT,
    failure,
    printable,
    reason,
    refusal,
)
from shimcore.pb import cri_pb2
from shimcore.registry.answers import Outcome
from shimcore.runtime.errors import StatusCode
from tests.unit.images.fakes import (
    CREATE,
    DIGEST,
    HUB,
    PULL,
    REMOVE,
    STATUS,
    Bench,
    FakeRegistries,
    config_of,
    create_request,
    failed,
    image_id,
    pull_request,
    pulled_as,
    remove_request,
    status_request,
)
from tests.unit.images.nginx import for_pod


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    """The decisions in the log."""
    return [each.message for each in caplog.records if each.message.startswith("call=")]


async def test_one_line_for_each_decision(caplog: pytest.LogCaptureFixture) -> None:
    """What was asked, what went on, where and why, in milliseconds; no secret of anyone."""
    caplog.set_level(logging.DEBUG, "shimcore")
    bench = Bench(registries=FakeRegistries({HUB: Outcome.FOUND}))
    bench.runtime.failing[HUB] = failed("hub-secret callers-own-secret Bearer abcdefghijkl")
    bench.runtime.failing["docker.io"] = failed("callers-own-secret was refused")
    await bench.pull("nginx", username="me", password="callers-own-secret")
    bench.runtime.failing.clear()
    await bench.pull("redis")
    await bench.status("redis")
    await asyncio.sleep(0.01)  # a line is written when the call is on its way
    told = lines(caplog)
    assert len(told) == 3
    assert told[0].startswith(
        "call=PullImage image=nginx outcome=failed(2) pod=- name=- registry=-"
    )
    assert f"call=PullImage image=redis outcome=pulled pod=- name={HUB}/library/redis" in told[1]
    assert told[2].startswith("call=ImageStatus image=redis decision=as-is")
    for secret in ("hub-secret", "callers-own", "abcdefghijkl"):
        assert secret not in caplog.text


async def test_hostile_name_stays_on_one_line(caplog: pytest.LogCaptureFixture) -> None:
    """A name with line breaks, escapes or a megabyte cannot forge or flood the log."""
    caplog.set_level(logging.INFO)
    bench = Bench()
    name = 'x\ncall=PullImage decision=rewritten \x1b[31m"' + "y" * 1_000_000
    bench.service.open(PULL, pull_request(name), None).decide_now()
    await asyncio.sleep(0)  # the line is written once the request is on its way
    assert len(lines(caplog)) == 1
    assert "\n" not in lines(caplog)[0]
    assert "\x1b" not in lines(caplog)[0]
    assert len(lines(caplog)[0]) < 2000


async def test_cancelled_decision_is_told(caplog: pytest.LogCaptureFixture) -> None:
    """A caller that goes away gets its line, too."""
    caplog.set_level(logging.INFO)
    bench = Bench(registries=FakeRegistries(delays_s={HUB: 30}))
    task = asyncio.create_task(bench.decide(PULL, pull_request("nginx")))
    await asyncio.sleep(0.01)
    task.cancel()
    await asyncio.wait({task})
    assert "outcome=cancelled" in lines(caplog)[0]


class Broken(FakeRegistries):
    """A neighbour with a defect."""

    def states(self) -> dict[str, str]:
        raise ZeroDivisionError

    async def head_manifest(self, *_: object) -> None:  # type: ignore[override]
        raise ZeroDivisionError


@pytest.mark.parametrize("fallback", list(Fallback))
async def test_defect_never_breaks_a_call(
    fallback: Fallback, caplog: pytest.LogCaptureFixture
) -> None:
    """The original goes on, or nothing does where it must not; the log has the traceback."""
    bench = Bench(config=config_of(fallback=fallback), registries=Broken())
    bench.service._context.resolver.probe = None  # type: ignore[assignment, method-assign]
    decision = await bench.decide(PULL, pull_request("nginx"))
    if fallback is Fallback.ALLOW:
        assert decision == Forward(None)
    else:
        assert isinstance(decision, Refuse)
        assert decision.code == StatusCode.INTERNAL
    assert any(each.levelno == logging.ERROR and each.exc_info for each in caplog.records)


async def test_defect_of_a_question_is_an_unreachable_registry(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """An error inside a registry's question does not end the others'."""
    bench = Bench(registries=Broken())
    await bench.pull("nginx")
    assert pulled_as(bench) == ["nginx"]
    assert len(bench.service._context.resolver) == 0
    assert any(each.exc_info for each in caplog.records)


async def test_unreadable_request_goes_to_the_runtime() -> None:
    """It can tell better what is wrong."""
    call = Bench().service.open(STATUS, b"\x0a\xff", None)
    assert call.decide_now() == Forward(None)
    call.finished(3, True, "")


async def test_statistics() -> None:
    """Entries, hits, misses, and pulls by registry and outcome."""
    bench = Bench(registries=FakeRegistries({HUB: Outcome.FOUND}))
    await bench.pull("nginx")
    await bench.pull("nginx")
    assert bench.service.stats() == {
        "entries": 1,
        "hits": 1,
        "misses": 1,
        "rewrites": {(HUB, "pulled"): 2},
        "bytes": {HUB: 0},
    }


@pytest.mark.parametrize("outcome", [Outcome.ABSENT, Outcome.UNREACHABLE, Outcome.UNAUTHORIZED])
async def test_a_registry_that_is_ruled_out_is_counted(outcome: Outcome) -> None:
    """By its own word: that no pull was tried there is what an operator looks for."""
    bench = Bench(
        registries=FakeRegistries({HUB: outcome}), config=config_of(fallback=Fallback.DENY)
    )
    assert isinstance(await bench.pull("nginx"), Refuse)
    assert bench.service.stats()["rewrites"][HUB, str(outcome)] == 1


async def test_new_service_starts_fresh() -> None:
    """After a reload nothing is remembered."""
    bench = Bench(registries=FakeRegistries({HUB: Outcome.FOUND}))
    await bench.pull("nginx")
    bench.restart()
    call = bench.service.open(PULL, pull_request("nginx"), None)
    assert call.decide_now() is None
    assert bench.service.open(STATUS, status_request("nginx"), None).decide_now() is None


def test_import_for_help_is_light() -> None:
    """What `resolve` explains costs neither an HTTP nor a gRPC library."""
    code = (
        "import sys, shimcore.images.call, shimcore.images.explanation;"
        "sys.exit(any(m in sys.modules for m in ('httpx', 'grpc')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


class TestWording:
    def test_printable_is_bounded(self) -> None:
        """Cut with an ellipsis, with everything unprintable escaped."""
        assert printable("a\nb\u2028", 10) == "a\\x0ab\\x2028"
        assert printable("x" * 20, 10) == "x" * 9 + "…"

    @pytest.mark.parametrize(
        ("text", "shown"),
        [
            ("Get https://user:pw@host/x: EOF", "Get https://host/x: EOF"),
            ('Get "https://s3/blob?X-Amz-Signature=abc": EOF', 'Get "https://s3/blob?***": EOF'),
            ("Authorization: Basic dXNlcjpwYXNz", "Authorization: Basic ***"),
            ("Get https://user:p@w@host/x?y: EOF", "Get https://host/x?*** EOF"),
            ("https://a/b?u=http://u:p@c", "https://a/b?***"),
            ("password hunter22 refused\nnow", "password *** refused now"),
            ('password "p\\"ss\\\\" refused', 'password "***" refused'),
        ],
    )
    def test_reason_has_no_secrets(self, text: str, shown: str) -> None:
        """URL passwords and queries, headers, and known secrets are taken out."""
        assert reason(text, ["hunter22", 'p"ss\\']) == shown

    def test_reason_is_bounded(self) -> None:
        """A runtime's error text may be a megabyte; in bytes, whatever the script."""
        assert len(reason("x " * 1_000_000).encode()) <= REASON_LIMIT
        assert len(reason("é" * 1_000_000).encode()) <= REASON_LIMIT

    @pytest.mark.parametrize("piece", ["a", "a://", "a.", "a://b?", "://u@", "Basic ", "?", "@"])
    def test_reason_takes_a_time_that_grows_with_the_text(self, piece: str) -> None:
        """64 KiB of letters, which a registry may answer, were gone through for half a minute."""
        started = time.process_time()
        reason(piece * (65536 // len(piece)))
        assert time.process_time() - started < 1

    def test_refusal_names_all_of_many(self) -> None:
        """Twenty registries with long reasons still fit, each with its host."""
        hosts = [f"registry-{number:02}.local:5000" for number in range(20)]
        attempts = [Attempt(host, Result.FAILED, "x" * 240) for host in hosts]
        for text in (refusal("nginx", attempts), failure("y" * 9000, attempts)):
            assert len(text.encode()) <= 2 * REASONS_LIMIT + 50
            assert all(host in text for host in hosts)

    def test_line_quotes_values(self) -> None:
        """A value with spaces or quotes cannot be taken for another key."""
        line = decision_line(
            "PullImage", 'a" b=c', Verdict(Refuse(5, "t"), "", "", "w h y"), 0.0015
        )
        assert line.startswith(
            'call=PullImage image="a\\" b=c" decision=refused(5) name=- registry=- '
        )
        assert line.endswith(' why="w h y" ms=1.5')


async def test_a_text_that_is_too_long_for_a_name_is_not_remembered() -> None:
    """Sixteen megabytes of it, a hundred times, leave nothing behind."""
    bench = Bench()
    for number in range(100):
        bench.service.open(STATUS, status_request(f"{number}" + "x" * 1025), None).decide_now()
    assert bench.service._means.cache_info().currsize == 0
    assert len(bench.service._context.hints) == 0


LONG = "x" * (1 << 20)
SANDBOX = cri_pb2.RunPodSandboxRequest(runtime_handler=LONG)


@pytest.mark.parametrize(
    ("method", "request_"),
    [
        (STATUS, status_request("nginx")),
        (STATUS, status_request(LONG)),
        (REMOVE, remove_request(LONG)),
        (CREATE, create_request(image_id(DIGEST), LONG)),
        (CREATE, create_request(LONG)),
        (PULL, for_pod(LONG, {"a": LONG}).replace(b"nginx", b"x.y/z")),
        ("/runtime.v1.RuntimeService/RunPodSandbox", SANDBOX.SerializeToString()),
    ],
    ids=["name", "long", "remove", "create", "create-long", "pull", "sandbox"],
)
async def test_a_call_that_goes_on_keeps_nothing_of_its_request(
    method: str, request_: bytes
) -> None:
    """It may be under way for minutes, and only its name is told at its end."""
    bench = Bench(config=config_of("address: http://h.l\nhub: {domains: [docker.io]}"))
    call = bench.service.open(method, request_, None)
    decision = call.decide_now()
    if decision is None:
        decision = await call.decide()
    assert decision == AS_IT_CAME
    await asyncio.sleep(0)  # until the log has its line
    kept = list(vars(call).values())
    assert not any(isinstance(each, ImageRequest) for each in kept)
    assert len(repr(kept)) < 10_000
    call.finished(StatusCode.UNKNOWN, True, "no")
    assert method == STATUS or not bench.names.in_use._creating
