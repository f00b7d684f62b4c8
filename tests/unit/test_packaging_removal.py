"""The packages' scripts at a removal, run by a real shell on folders of the test."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

PACKAGING = Path(__file__).parents[2] / "packaging"
STATE = "/var/lib/image-cri-shim"
STUB = '#!/bin/sh\necho "${0##*/} $*" >>"$NOTES"\nexit "$STATUS"\n'
PUT_BACK = "image-cri-shim uninstall-service --root /"


def deb(name: str) -> str:
    return (PACKAGING / "debian" / name).read_text()


def preun() -> str:
    """The section of rpm.spec, as at the last version's removal."""
    spec = (PACKAGING / "rpm.spec").read_text()
    (section,) = re.findall(r"(?ms)^%preun\n(.*?)(?=^%|\Z)", spec)
    return f"set -- 0\n{section}"


def run(script: str, folder: Path, *words: str, status: int = 0) -> tuple[int, list[str], str]:
    """Exit status, what was asked of the commands (which end with `status`), what was said."""
    for name in ("image-cri-shim", "systemctl", "deb-systemd-helper"):
        (folder / name).write_text(STUB)
        (folder / name).chmod(0o755)
    notes = folder / "notes"
    notes.touch()
    for path in (STATE, "/run/", "/etc/"):
        script = script.replace(path, f"{folder}{path}")
    done = subprocess.run(
        ["/bin/sh", "-c", script, "sh", *words],
        env={"PATH": f"{folder}:/usr/bin:/bin", "NOTES": str(notes), "STATUS": str(status)},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, notes.read_text().splitlines(), done.stderr


@pytest.fixture(params=["deb", "rpm"], name="removal")
def script_before_a_removal(request: pytest.FixtureRequest) -> str:
    return preun() if request.param == "rpm" else deb("prerm")


def write_record(folder: Path) -> Path:
    state = folder / STATE.lstrip("/")
    (state / "originals").mkdir(parents=True)
    (state / "installed.json").touch()
    return state


@pytest.mark.parametrize("booted", [False, True])
def test_what_was_installed_is_put_back(removal: str, booted: bool, tmp_path: Path) -> None:
    """In an image, too, where no systemd runs; else the command that can do so goes away."""
    write_record(tmp_path)
    if booted:
        (tmp_path / "run/systemd/system").mkdir(parents=True)
    status, asked, _ = run(removal, tmp_path, "remove")
    stop = any(each.startswith("systemctl stop ") for each in asked)
    assert (status, PUT_BACK in asked, stop) == (0, True, booted)


def test_the_package_stays_where_that_fails(removal: str, tmp_path: Path) -> None:
    """With what to do."""
    write_record(tmp_path)
    status, asked, said = run(removal, tmp_path, "remove", status=1)
    assert (status, asked, "--force" in said) == (1, [PUT_BACK], True)


def test_nothing_is_put_back_where_nothing_was_installed(removal: str, tmp_path: Path) -> None:
    """An image build that has the package alone."""
    status, asked, _ = run(removal, tmp_path, "remove", status=1)
    assert (status, PUT_BACK in asked) == (0, False)


@pytest.mark.parametrize("recorded", [False, True])
def test_a_purge_keeps_the_way_back(recorded: bool, tmp_path: Path) -> None:
    """As long as something was not put back; never a password."""
    state = write_record(tmp_path)
    if not recorded:
        (state / "installed.json").unlink()
    (state / "last-good.json").touch()
    status, _, said = run(deb("postrm"), tmp_path, "purge")
    left = sorted(path.name for path in state.iterdir()) if state.exists() else []
    assert (status, left) == (0, ["installed.json", "originals"] if recorded else [])
    assert (PUT_BACK in said) is recorded
