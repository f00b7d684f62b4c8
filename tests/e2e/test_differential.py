"""Through the shim a client hears the runtime's own bytes; the same bytes said get the same answer.

Clients: grpc's C core with odd settings, grpc-go as crictl and as the benchmarks' load.
"""

from __future__ import annotations

import contextlib
import itertools
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest

from benchmarks import programs
from tests.e2e.conftest import Shims, refuse
from tests.e2e.support import wire
from tests.e2e.support.containerd import Containerd
from tests.e2e.support.cri_client import same
from tests.e2e.support.crictl import Crictl
from tests.e2e.support.process import Process, alone, unix_answers, wait_for
from tests.e2e.support.shim import Shim
from tests.e2e.support.tap import (
    Conversation,
    Tap,
    answers,
    passed_on,
    pings,
    replay,
    without_window_updates,
)

pytestmark = pytest.mark.e2e

ANSWER_S = 20
METADATA_BYTES = 200_000
# grpc/impl/channel_arg_names.h
SETTINGS: dict[str, list[tuple[str, int]]] = {
    "default": [],
    "smallest windows": [("grpc.http2.lookahead_bytes", 1), ("grpc.http2.bdp_probe", 0)],
    "no bandwidth probes": [("grpc.http2.bdp_probe", 0)],
    "small frames": [("grpc.http2.max_frame_size", 16_384)],
    "largest frames": [
        ("grpc.http2.max_frame_size", 16_777_215),
        ("grpc.http2.lookahead_bytes", 1 << 24),
    ],
    "no header tables": [
        ("grpc.http2.hpack_table_size.decoder", 0),
        ("grpc.http2.hpack_table_size.encoder", 0),
    ],
    "large header tables": [
        ("grpc.http2.hpack_table_size.decoder", 1 << 16),
        ("grpc.http2.hpack_table_size.encoder", 1 << 16),
    ],
    "many pings": [
        ("grpc.keepalive_time_ms", 100),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.max_pings_without_data", 0),
    ],
    "gzip": [("grpc.default_compression_algorithm", int(grpc.Compression.Gzip))],
}
GO_CALLS = 24
LOADS = ("version", "list-200", "list-5000", "stream")

Mix = Callable[[Path], None]
_serial = itertools.count()


def chatter(options: list[tuple[str, int]], *, ours: bool) -> Mix:
    """A client of C core: unary and streaming calls, large ones, failing ones, many at once.

    `ours`: also calls that the shim opens.
    """

    def run(socket: Path) -> None:
        usual: list[tuple[str, Any]] = [
            ("grpc.default_authority", "localhost"),
            ("grpc.use_local_subchannel_pool", 1),
            ("grpc.max_metadata_size", 1 << 20),
            ("grpc.absolute_max_metadata_size", 1 << 20),
        ]
        with grpc.insecure_channel(f"unix:{socket}", options=[*usual, *options]) as channel:
            say_all(channel, ours=ours)

    return run


def say_all(channel: grpc.Channel, *, ours: bool) -> None:
    """The calls; an AssertionError when an answer is not the right one."""
    echo = channel.unary_unary("/x.Y/Echo", same, same)
    stream = channel.unary_stream("/x.Y/Stream", same, same)
    chat = channel.stream_stream("/x.Y/Chat", same, same)
    missing = channel.unary_unary("/x.Y/Missing", same, same)
    status = channel.unary_unary("/runtime.v1.ImageService/ImageStatus", same, same)
    for size in (0, 1, 1000, 70_000, 300_000):
        assert echo(bytes(size), timeout=ANSWER_S) == bytes(size)
        got = list(stream(b"x" * (size // 10), metadata=(("count", "20"),), timeout=ANSWER_S))
        assert len(got) == 20
    large = (("x-large", "v" * METADATA_BYTES), ("x-some-bin", bytes(range(256))))
    assert echo(b"large metadata", metadata=large, timeout=ANSWER_S) == b"large metadata"
    sent = [b"%d" % number * 500 for number in range(20)]
    assert list(chat(iter(sent), timeout=ANSWER_S)) == sent
    with pytest.raises(grpc.RpcError) as refused:
        missing(b"", timeout=ANSWER_S)
    assert refused.value.code() is grpc.StatusCode.UNIMPLEMENTED
    given_up = stream(b"z", metadata=(("count", "1000000"),), timeout=ANSWER_S)
    assert next(given_up) == b"0:z"
    given_up.cancel()
    waiting = []
    for number in range(60):
        waiting.append(echo.future(b"%d" % number * 300, timeout=ANSWER_S))
        if ours:
            waiting.append(status.future(wire.encode({1: {1: f"none-{number}"}}), timeout=ANSWER_S))
    assert all(one.result() is not None for one in waiting)


@dataclass
class Wires:
    """A shim with a tap on either side of it, and a third tap on the runtime alone."""

    shim: Shim
    runtime: Path
    outer: Tap
    inner: Tap
    direct: Tap

    def say(self, mix: Mix) -> tuple[Conversation, Conversation]:
        """One client's conversation through the shim, as either side of the shim has it."""
        before = len(self.outer.conversations), len(self.inner.conversations)
        mix(self.outer.socket)
        outer = self.outer.conversations[before[0] :]
        inner = self.inner.conversations[before[1] :]
        # Calls of the shim's own (a question on the side) come on other connections.
        pairs = [(o, i) for o in outer for i in inner if o.sent()[:200] == i.sent()[:200]]
        assert pairs, "the taps have nothing in common"
        pair = max(pairs, key=lambda pair: len(pair[0].sent()))

        def settled() -> bool:
            return len(pair[0].sent()) <= len(pair[1].sent()) and len(pair[1].answered()) <= len(
                pair[0].answered()
            )

        with contextlib.suppress(AssertionError):  # the comparison says it better
            wait_for("the last bytes", settled, 5)
        return pair

    def say_directly(self, mix: Mix) -> Conversation:
        """The same without the shim."""
        before = len(self.direct.conversations)
        mix(self.direct.socket)
        return max(self.direct.conversations[before:], key=lambda one: len(one.sent()))


@contextlib.contextmanager
def tapped(shims: Shims, config: dict[str, Any], runtime: Path) -> Iterator[Wires]:
    folder = Path(tempfile.mkdtemp(prefix=f"w{next(_serial)}-", dir=shims.directory))
    with contextlib.ExitStack() as closing:
        inner = closing.enter_context(contextlib.closing(Tap(folder / "i", runtime)))
        shim = shims.serve(config, inner.socket)
        outer = closing.enter_context(contextlib.closing(Tap(folder / "o", shim.socket)))
        direct = closing.enter_context(contextlib.closing(Tap(folder / "d", runtime)))
        yield Wires(shim, runtime, outer, inner, direct)


@pytest.fixture
def before_stand_in(shims: Shims, hub_config: dict[str, Any]) -> Iterator[Wires]:
    """Before the stand-in runtime: a server of grpc's C core."""
    socket = shims.directory / "stand-in.sock"
    command: list[str | Path] = [
        sys.executable,
        "-m",
        "tests.support.scripted_runtime",
        "--socket",
        socket,
        "--make-up",
    ]
    stand_in = Process("stand-in", command, shims.directory / "stand-in.log")
    stand_in.start(lambda: unix_answers(socket))
    with tapped(shims, hub_config, socket) as wires:
        yield wires
    stand_in.stop()


@pytest.fixture
def before_node(shims: Shims, hub_config: dict[str, Any], runtime: Containerd) -> Iterator[Wires]:
    """Before containerd: a server of grpc-go."""
    with tapped(shims, hub_config, runtime.socket) as wires:
        yield wires


@pytest.fixture
def before_go(shims: Shims, hub_config: dict[str, Any]) -> Iterator[Wires]:
    """Before the benchmarks' runtime: another server of grpc-go, with large answers."""
    if shutil.which("go") is None:
        refuse("needs Go")
    with alone(programs.BUILT):
        programs.build()
    socket = shims.directory / "go.sock"
    log = shims.directory / "go.log"
    process = Process("runtime", [programs.program("runtime"), socket], log)
    process.start(lambda: unix_answers(socket))
    with tapped(shims, hub_config, socket) as wires:
        yield wires
    process.stop()


def assert_same_bytes(outer: Conversation, inner: Conversation, least: int) -> None:
    """Byte for byte in both directions, up to the moment at which the connection ended.

    The client's PINGs are the shim's to answer: each is, in their order, and none goes on.
    """
    sent = [passed_on(side.sent(), from_client=True) for side in (outer, inner)]
    heard = [passed_on(side.answered(), from_client=False) for side in (outer, inner)]
    for one, other in (sent, heard):
        size = min(len(one), len(other))
        if one[:size] != other[:size]:
            at = next(n for n in range(size) if one[n] != other[n])
            raise AssertionError(f"{one[at - 9 : at + 20]!r} and {other[at - 9 : at + 20]!r}")
    assert min(map(len, heard)) > least
    asked = pings(outer.sent(), from_client=True)
    answered = pings(outer.answered(), from_client=False)
    assert answered == asked[: len(answered)]
    assert not pings(inner.sent(), from_client=True)


def assert_same_answers(outer: Conversation, inner: Conversation) -> None:
    """Frame for frame to the client, but for window credit and PINGs of one hop."""
    heard, said = map(without_window_updates, (outer.answered(), inner.answered()))
    common = min(len(heard), len(said))
    assert common
    assert heard[:common] == said[:common]


@pytest.mark.parametrize("settings", SETTINGS)
def test_c_core_hears_the_runtimes_own_bytes(settings: str, before_stand_in: Wires) -> None:
    """With calls that are not ours, both directions come out of the shim as they went in.

    With calls of ours among them, the shim adds nothing to the answers but window credit; and
    a recorded conversation gets the same answers directly and through the shim.
    """
    wires = before_stand_in
    outer, inner = wires.say(chatter(SETTINGS[settings], ours=False))
    assert_same_bytes(outer, inner, 300_000)
    mix = chatter(SETTINGS[settings], ours=True)
    assert_same_answers(*wires.say(mix))
    compare_replays(wires, mix, 100)


def test_crictl_is_answered_the_same(before_node: Wires, tmp_path: Path) -> None:
    """Bytes and replayed answers, with containerd and its own client."""
    for arguments in (("version",), ("images",), ("pods",), ("ps", "-a"), ("inspecti", "none:1")):

        def mix(socket: Path, arguments: tuple[str, ...] = arguments) -> None:
            Crictl(socket, tmp_path).run(*arguments)

        assert_same_answers(*before_node.say(mix))
        compare_replays(before_node, mix, 1)


@pytest.mark.parametrize("scenario", [*LOADS, "mixed"])
def test_grpc_go_is_answered_the_same(scenario: str, before_go: Wires) -> None:
    """Many calls in flight of grpc-go's client to grpc-go's server."""

    def mix(socket: Path) -> None:
        calls = ["-calls", str(GO_CALLS), "-inflight", "16", "-messages", "200"]
        command: list[str | Path] = [
            programs.program("load"),
            "-socket",
            socket,
            "-scenario",
            scenario,
            *calls,
        ]
        subprocess.run(command, check=True, capture_output=True, timeout=60)

    outer, inner = before_go.say(mix)
    if scenario in LOADS:
        assert_same_bytes(outer, inner, 1000)
    assert_same_answers(outer, inner)
    compare_replays(before_go, mix, GO_CALLS)


def compare_replays(wires: Wires, mix: Mix, calls: int) -> None:
    """Record directly, then say it again both ways.

    What the runtime itself answers differently each time (times in it) is left out.
    """
    recorded = wires.say_directly(mix)
    direct, again = (answers(replay(recorded, wires.runtime)) for _ in range(2))
    via = answers(replay(recorded, wires.shim.socket))
    ended = [s for s, answer in direct.items() if answer.ended and again.get(s) == answer]
    assert len(ended) >= calls
    for stream in ended:
        assert via[stream] == direct[stream], f"call {stream}"
