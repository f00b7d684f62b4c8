"""Prints what a bundle holds of others: every package with its version and its licence's text.

`python licences.py DISTRIBUTION EXTRA…` walks what the distribution requires in this Python.
Standard input names the library files, one a line, that came from outside of it. Debian's packages
follow with their copyright files: those of this machine that own one of the files, and those that
went into this Python, if packaging/python compiled it.
"""

from __future__ import annotations

import platform
import subprocess
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement

RULE = "=" * 78
NAMES = ("licen", "copying", "notice", "authors")
BUILD = {
    "mypy": "MIT; mypyc's part PSF-2.0, too",
    "pyinstaller": "GPL-2.0-or-later, with the exception that lets its loader be bundled",
}
"""What is in a bundle without being required: mypyc's runtime; PyInstaller's start program and
import code."""


def required(name: str, extras: Iterable[str]) -> dict[str, Distribution]:
    """What `name` with `extras` brings along, itself not included, by lower-case name."""
    found: dict[str, Distribution] = {}
    waiting = [(name, frozenset(extras))]
    seen = set()
    while waiting:
        one = waiting.pop()
        if one in seen:
            continue
        seen.add(one)
        try:
            here = distribution(one[0])
        except PackageNotFoundError as error:
            raise SystemExit(f"licences.py: {error.name} is required and not installed") from error
        found[here.name.lower()] = here
        for text in here.requires or ():
            wanted = Requirement(text)
            marker = wanted.marker
            if marker is None or any(marker.evaluate({"extra": each}) for each in {"", *one[1]}):
                waiting.append((wanted.name, frozenset(wanted.extras)))
    del found[distribution(name).name.lower()]
    return found


def licence(one: Distribution) -> str:
    """Its licence in a few words."""
    if one.name.lower() in BUILD:
        return BUILD[one.name.lower()]
    said = {name: one.metadata.get_all(name) or [""] for name in ("License-Expression", "License")}
    classifiers = [
        each.rpartition(" :: ")[2]
        for each in one.metadata.get_all("Classifier") or ()
        if each.startswith("License :: ") and each != "License :: OSI Approved"
    ]
    first_line = said["License"][0].strip().partition("\n")[0]
    return said["License-Expression"][0] or ", ".join(classifiers) or first_line or "see below"


def texts(one: Distribution) -> Iterator[tuple[str, str]]:
    """Its licence files: name and text."""
    for path in sorted(one.files or (), key=str):
        place = Path(str(path.locate()))
        if ".dist-info" in str(path) and place.name.lower().startswith(NAMES) and place.is_file():
            yield place.name, place.read_text(encoding="utf-8", errors="replace")


@dataclass(frozen=True, slots=True)
class Foreign:
    """What a Debian package brought in, and where its copyright file is."""

    title: str
    copyright: Path


def of_python(prefix: Path) -> list[Foreign]:
    """What went into a Python that packaging/python has compiled; nothing of another one."""
    noted = prefix / "packages"
    if not noted.is_file():
        return []
    return [
        Foreign(f"{name} {version}  (Debian's)", prefix / "share/doc" / name / "copyright")
        for name, version in map(str.split, noted.read_text().splitlines())
    ]


def of_system(files: Iterable[str]) -> list[Foreign]:
    """The build machine's packages that own the files."""
    return [
        Foreign(
            f"{name} {version}  (Debian's: {', '.join(sorted(set(names)))})",
            Path("/usr/share/doc", name, "copyright"),
        )
        for (name, version), names in debian_packages(files).items()
    ]


def debian_packages(files: Iterable[str]) -> dict[tuple[str, str], list[str]]:
    """The packages that own the files: name and version → file names."""
    owners = _owners(files)
    # One question for all: dpkg reads its books anew for each.
    packages = sorted(set(owners.values()))
    form = "--showformat=${binary:Package} ${Package} ${Version}\\n"
    shown = _query("--show", form, *packages) if packages else ""
    keys = {}
    for line in shown.splitlines():
        qualified, name, version = line.split()
        keys[qualified] = keys[name] = (name, version)
    owned: dict[tuple[str, str], list[str]] = {}
    for file, package in owners.items():
        owned.setdefault(keys[package], []).append(Path(file).name)
    return owned


def _owners(files: Iterable[str]) -> dict[str, str]:
    """File → its package, `:amd64` and the like included; without those that no package has."""
    # Before /usr was merged dpkg knew these files without it, and may still.
    asked = {path: file for file in files for path in (file, file.removeprefix("/usr"))}
    if not asked:
        return {}
    found = [line.rpartition(": ") for line in _query("--search", *asked).splitlines()]
    return {
        asked[path]: packages.partition(",")[0]
        for packages, _, path in found
        if path in asked and not packages.startswith("diversion by ")
    }


def _query(*arguments: str) -> str:
    """What dpkg knows; nothing of what it does not."""
    command = ["/usr/bin/dpkg-query", *arguments]
    # The paths that PyInstaller found.
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout  # noqa: S603


def report(name: str, extras: Iterable[str], files: Iterable[str]) -> Iterator[str]:
    """The whole list, a line or a text at a time."""
    packages = required(name, extras) | {each: distribution(each) for each in BUILD}
    outside = [each for each in files if "site-packages" not in each]
    foreign = [*of_python(Path(sys.base_prefix)), *of_system(outside)]
    foreign.sort(key=lambda each: each.title)
    yield f"{name} {distribution(name).version} is under the Apache License 2.0. Bundled with it:\n"
    yield f"  Python {platform.python_version()}  (PSF-2.0)"
    for each in sorted(packages):
        one = packages[each]
        yield f"  {one.name} {one.version}  ({licence(one)})"
    for source in foreign:
        yield f"  {source.title}"
    own = Path(sysconfig.get_path("stdlib"), "LICENSE.txt")
    if own.is_file():  # Debian has it in its package's copyright file
        yield f"\n{RULE}\nPython\n{RULE}\n{own.read_text().rstrip()}"
    for each in sorted(packages):
        one = packages[each]
        for file, text in texts(one):
            yield f"\n{RULE}\n{one.name} {one.version}: {file}\n{RULE}\n{text.rstrip()}"
    for source in foreign:
        if source.copyright.is_file():
            text = source.copyright.read_text(encoding="utf-8", errors="replace")
            yield f"\n{RULE}\n{source.title}: copyright\n{RULE}\n{text.rstrip()}"


if __name__ == "__main__":
    for part in report(sys.argv[1], sys.argv[2:], sys.stdin.read().splitlines()):
        print(part)
