"""What is asked of a node is read with bounds; anything else is refused by name."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from shimcore.errors import ShimError
from shimcore.switch.exchange import MOST_BYTES, REQUEST, ROOM, Mode, SwitchRequest, read_request
from tests.unit.systemd.machines import unpacked

WHOLE = {
    "revision": "7f3a9c",
    "version": "1.2.3",
    "mode": "install",
    "config": "address: http://sealos.hub:5000\n",
    "wire_runtime": True,
    "wire_kubelet": False,
    "health_s": 30,
    "at": "2026-01-01T00:00:00Z",
}


def read(directory: Path, text: str) -> SwitchRequest:
    return read_request(unpacked(directory, {REQUEST: text}))


def test_a_whole_one(tmp_path: Path) -> None:
    """Every key is read."""
    found = read(tmp_path, json.dumps(WHOLE))
    assert found == SwitchRequest(
        "7f3a9c", "1.2.3", Mode.INSTALL, "address: http://sealos.hub:5000\n", True, False, 30
    )


def test_what_may_be_left_out(tmp_path: Path) -> None:
    """No configuration leaves the node's file as it is; both are wired, in twenty seconds."""
    found = read(tmp_path, json.dumps({"revision": "1", "version": "1.2.3", "mode": "remove"}))
    assert found == SwitchRequest("1", "1.2.3", Mode.REMOVE, None, True, True, 20)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("version", "../1.2.3"),
        ("version", "current"),
        ("version", ""),
        ("version", "1" * 200),
        ("revision", "a b"),
        ("revision", None),
        ("mode", "upgrade"),
        ("config", 7),
        ("wire_kubelet", "yes"),
        ("health_s", 4),
        ("health_s", 100000),
        ("health_s", True),
        ("health_s", "20"),
    ],
)
def test_a_value_that_makes_no_sense(key: str, value: Any, tmp_path: Path) -> None:
    """It is named."""
    with pytest.raises(ShimError, match=key):
        read(tmp_path, json.dumps(WHOLE | {key: value}))


@pytest.mark.parametrize("text", ["", "{", "[]", "[" * 100_000, '"x"'])
def test_what_is_no_object(text: str, tmp_path: Path) -> None:
    """The file is named."""
    with pytest.raises(ShimError, match=r"request\.json"):
        read(tmp_path, text)


def test_one_that_is_too_long(tmp_path: Path) -> None:
    """Nothing of it is used."""
    with pytest.raises(ShimError, match="longer"):
        read(tmp_path, " " * (MOST_BYTES + 1))


def test_none_at_all(tmp_path: Path) -> None:
    """Nothing is asked of the node."""
    with pytest.raises(ShimError, match="nothing is asked"):
        read_request(unpacked(tmp_path, {}))


def test_a_pipe_in_its_place(tmp_path: Path) -> None:
    """Is named, and not waited for."""
    root = unpacked(tmp_path, {f"{ROOM}/x": ""})
    os.mkfifo(root.host(REQUEST))
    with pytest.raises(ShimError, match=rf"^{REQUEST}: not a regular file; nothing is asked"):
        read_request(root)
