"""What a document may cost: bytes, values, lists, faults, time; and what is no regular file."""

from __future__ import annotations

import os
import socket
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest

from shimcore.cluster.documents import ClusterPart, Document, Kind
from shimcore.config import Config, load, parse_config
from shimcore.config.document import read_document
from shimcore.config.files import stamp_now
from shimcore.config.model import KubernetesSource
from shimcore.errors import ConfigError

ENTRY = "{address: a.example, auth: {username: u, password: p}, priority: 5, path: 'x/{path}'}"
BOMB = ("address: h.example\na: &a {" + ",".join(f"k{n}: v" for n in range(9)) + "}\n") + "\n".join(
    f"{to}: &{to} {{" + ",".join(f"k{n}: *{of}" for n in range(9)) + "}"
    for of, to in zip("abcdefgh", "bcdefghi", strict=True)
)


def refused(text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        parse_config(text, "test.yaml")
    return str(caught.value)


def from_cluster(tmp_path: Path, text: str) -> Config:
    file = tmp_path / "c.yaml"
    file.write_text("address: h.example\nkubernetes: {enabled: true}\n")
    source = KubernetesSource(enabled=True)
    return load(file, ClusterPart(source, {Kind.CONFIG_MAP: Document(text, "1")}))


def test_a_configmap_of_repeated_registries(tmp_path: Path) -> None:
    """The attack: 18 KB, one entry and 4,600 aliases of it, took 20 s."""
    text = f"registries: [&a {ENTRY}" + ", *a" * 4600 + "]"
    started = time.process_time()
    with pytest.raises(ConfigError, match="more than 50000 values, with aliases"):
        from_cluster(tmp_path, text)
    with pytest.raises(ConfigError, match="at most 256 of them, not 1001"):
        from_cluster(tmp_path, f"registries: [&a {ENTRY}" + ", *a" * 1000 + "]")
    assert time.process_time() - started < 2


@pytest.mark.parametrize("host", ["1" * 900 + "x", "1." * 450, "1" * 200_000])
def test_a_host_of_many_digits(tmp_path: Path, host: str) -> None:
    """The attack: 900 of them and a letter were gone through for minutes."""
    started = time.process_time()
    with pytest.raises(ConfigError, match="no host has this name"):
        from_cluster(tmp_path, f"registries: [{{address: {host}}}]")
    assert time.process_time() - started < 2


def test_as_many_registries_as_there_may_be(tmp_path: Path) -> None:
    """256 of them, with all that they may have, are merged in a time that grows with them."""
    domains = ", ".join(f"d{n}.example" for n in range(64))
    text = "registries:\n" + "".join(
        f"- {{address: r{n}.example, priority: {n}, domains: [{domains}]}}\n" for n in range(256)
    )
    started = time.process_time()
    assert len(from_cluster(tmp_path, text).registries) == 257
    assert time.process_time() - started < 5


def test_a_bomb_of_mappings() -> None:
    """The attack: 450 bytes that took 150 MiB; here ten levels, which would be gigabytes."""
    tracemalloc.start()
    try:
        assert "values, with aliases written out" in refused(BOMB)
        assert tracemalloc.get_traced_memory()[1] < 10_000_000
    finally:
        tracemalloc.stop()


def test_aliases_that_nest() -> None:
    """Each level is one alias deeper than the last: no recursion without end."""
    text = "a0: &a0 [x]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}]\n" for n in range(1, 3000))
    assert "nested too deeply, with aliases written out" in refused(text)


def test_a_merge_of_very_many() -> None:
    """`<<` with one mapping twenty thousand times."""
    text = "a: &a {" + ",".join(f"k{n}: v" for n in range(2000)) + "}\n"
    assert "more than 50000 values" in refused(text + "b: {<<: [" + ",".join(["*a"] * 20000) + "]}")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("#" * 600_000, "longer than 512 KiB"),
        ("a: [" + "b," * 60_000 + "]", "more than 50000 values"),
        ("exclude: [" + "a*," * 1025 + "]", "exclude: at most 1024 of them, not 1025"),
        ("exclude: [" + "a" * 257 + "]", "exclude[0]: a pattern has at most 256 characters"),
        ("exclude: [" + ("a" * 200 + ",") * 400 + "]", "exclude: more than 64 KiB of patterns"),
        ("hub: {domains: [" + "a.b," * 65 + "]}", "hub.domains: at most 64 of them, not 65"),
        ("kubernetes: {hosts: [" + "a.b," * 257 + "]}", "hosts: at most 256 of them, not 257"),
    ],
)
def test_bounds(text: str, reason: str) -> None:
    """Each names itself."""
    assert reason in refused(f"address: h.example\n{text}")


@pytest.mark.parametrize("text", ["a:" + "\t" * 520_000 + "b", "a: [" + "\t\n" * 260_000 + "b]"])
def test_a_document_of_tabs(text: str) -> None:
    """It takes as long as one of spaces."""
    started = time.process_time()
    assert read_document(text)[1] == []
    assert time.process_time() - started < 5


def test_faults_are_counted() -> None:
    """Forty thousand unknown keys are fifty lines and a number, at once."""
    started = time.process_time()
    with pytest.raises(ConfigError) as caught:
        parse_config("\n".join(f"k{n}: 1" for n in range(20_000)), "test.yaml")
    assert len(caught.value.faults) == 51
    assert str(caught.value.faults[-1]) == "19951 more faults"
    assert time.process_time() - started < 5


def fifo(path: Path) -> None:
    os.mkfifo(path)


def device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def unix_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(path))


@pytest.mark.parametrize("make", [fifo, device])
@pytest.mark.parametrize("key", ["", "passwordFile", "dockerConfig", "caFile"])
def test_what_is_no_regular_file(tmp_path: Path, make: Callable[[Path], None], key: str) -> None:
    """The attack: a FIFO in a file's place held up everything. It is a fault, at once."""
    file, odd = tmp_path / "c.yaml", tmp_path / "odd"
    make(odd)
    if key:
        file.write_text(f"address: https://h.example\nhub: {{{key}: {odd}}}\n")
    with pytest.raises(ConfigError, match="not a regular file"):
        load(file if key else odd)
    assert stamp_now(str(odd)) == stamp_now(str(odd))


def test_a_socket_in_its_place(tmp_path: Path) -> None:
    """It cannot be opened at all."""
    unix_socket(tmp_path / "odd")
    with pytest.raises(ConfigError, match="No such device"):
        load(tmp_path / "odd")


def test_a_document_has_its_faults_once() -> None:
    """A bounded list of faults of the text itself, too."""
    _, faults = read_document("\n".join("k: 1" for _ in range(1000)))
    assert len(faults) == 51
