"""What `pip install` gets: a wheel that was built of the sdist, as the package index has it."""

from __future__ import annotations

import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[2]


def build(source: Path, target: str, place: Path) -> Path:
    """The sdist or the wheel of what lies in a folder."""
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "--target", target, "--directory", place],
        cwd=source,
        check=True,
        capture_output=True,
    )
    (made,) = place.glob("*.whl" if target == "wheel" else "*.tar.gz")
    return made


def test_a_wheel_has_all_of_the_packages(tmp_path: Path) -> None:
    """Units, completions and types included."""
    said = ["git", "ls-files", "-z", "cli", "shimcore"]
    listed = subprocess.run(said, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    wanted = {name for name in listed.split("\0") if name}
    with tarfile.open(build(ROOT, "sdist", tmp_path)) as archive:
        archive.extractall(tmp_path / "source", filter="data")
    (source,) = (tmp_path / "source").iterdir()
    with zipfile.ZipFile(build(source, "wheel", tmp_path)) as wheel:
        assert wanted <= set(wheel.namelist())
