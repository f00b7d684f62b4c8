"""Units as systemd reads them; each expectation was seen in `systemd --test` (252)."""

from __future__ import annotations

from pathlib import Path

import pytest

from shimcore.systemd.unitfile import ServiceUnit, listening, read_service
from tests.unit.systemd.machines import unpacked

NAME = "kubelet.service"
UNIT = f"/etc/systemd/system/{NAME}"


def read(directory: Path, text: str, **drop_ins: str) -> ServiceUnit:
    """The unit with this text and these drop-ins."""
    files = {f"{UNIT}.d/{name}.conf": each for name, each in drop_ins.items()}
    found = read_service(unpacked(directory, {UNIT: text, **files}), NAME)
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("text", "command"),
    [
        ("#ExecStart=/old \\\n#  --old \\\nExecStart=/new --a\n", ["/new", "--a"]),
        ("; paths such as C:\\\nExecStart=/new\n", ["/new"]),
        ("ExecStart=/new \\\n  # --x \\\n  --b\n", ["/new", "--b"]),
        ("ExecStart=/new \\\n\n  --b\n", ["/new"]),
        ("ExecStart=/new \\\r\n --b\r\n", ["/new", "--b"]),
        ("ExecStart=/new --b \\", ["/new", "--b"]),
        ("  ExecStart = /new --b\n", ["/new", "--b"]),
    ],
)
def test_comments_are_left_out_before_lines_are_joined(
    tmp_path: Path, text: str, command: list[str]
) -> None:
    """A backslash at the end of a comment takes nothing away."""
    assert read(tmp_path, f"[Service]\n{text}").arguments({}) == command


def test_a_byte_order_mark_is_passed_over(tmp_path: Path) -> None:
    """The section behind it counts."""
    assert read(tmp_path, "\ufeff[Service]\nExecStart=/new\n").arguments({}) == ["/new"]


def test_a_hidden_drop_in_is_none(tmp_path: Path) -> None:
    """Editors leave such."""
    text = "[Service]\nEnvironment=A=1\n"
    unit = read(tmp_path, text, **{".hidden": "[Service]\nEnvironment=B=2\n"})
    assert unit.environment == {"A": "1"}


def test_a_socket_after_a_comment_with_a_backslash(tmp_path: Path) -> None:
    """It is listened at."""
    text = "[Socket]\n# C:\\\nListenStream=/run/x.sock\n"
    root = unpacked(tmp_path, {"/etc/systemd/system/x.socket": text})
    assert listening(root, "x.socket") == ["/run/x.sock"]


@pytest.mark.parametrize("is_link", [True, False])
def test_a_masked_unit_is_none(tmp_path: Path, is_link: bool) -> None:
    """That of a later directory does not take its place."""
    text = "[Service]\nExecStart=/new\n"
    root = unpacked(tmp_path, {f"/usr/lib/systemd/system/{NAME}": text, f"{UNIT}.d/x.conf": text})
    if is_link:
        root.host(UNIT).symlink_to("/dev/null")
    else:
        root.host(UNIT).touch()
    assert read_service(root, NAME) is None
    assert listening(root, NAME) == []


def test_a_masked_drop_in_says_nothing(tmp_path: Path) -> None:
    """Nor does the one of its name in a later directory."""
    text = "[Service]\nExecStart=/new\n"
    package = {f"/usr/lib/systemd/system/{NAME}.d/x.conf": "[Service]\nEnvironment=A=1\n"}
    root = unpacked(tmp_path, {UNIT: text, f"{UNIT}.d/other.conf": "", **package})
    root.host(f"{UNIT}.d/x.conf").symlink_to("/dev/null")
    unit = read_service(root, NAME)
    assert unit is not None
    assert (unit.exec_start, unit.environment) == ("/new", {})


def test_variables_are_read_with_their_escapes(tmp_path: Path) -> None:
    """An empty list takes back those before it."""
    text = (
        "[Service]\nEnvironment=A=1\nEnvironment=\nEnvironment=\"B=a\\tb\" C=x\\x20y 'D=a\\\\b'\n"
    )
    unit = read(tmp_path, text)
    assert unit.environment == {"B": "a\tb", "C": "x y", "D": "a\\b"}


def test_variables_are_put_into_the_command(tmp_path: Path) -> None:
    """A word that is one is taken apart, quotes away; in braces it stays one word."""
    text = """[Service]\nExecStart=/x $A ${A} --b=${B} --c=\\x41$B "$$d" $E %N %% %H\n"""
    unit = read(tmp_path, text)
    assert unit.origins({"A": "'a b' c", "B": "b"}) == [
        ("/x", ""),
        ("a b", "A"),
        ("c", "A"),
        ("'a b' c", "A"),
        ("--b=b", ""),
        ("--c=A$B", ""),
        ("$d", ""),
        ("kubelet", ""),
        ("%", ""),
        ("%H", ""),
    ]
