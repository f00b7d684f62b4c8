"""rpm, as a machine runs it that has dpkg, too."""

from __future__ import annotations

import subprocess
from pathlib import Path

from .bare_tree import BareMachine
from .systemd_tree import Done

# What the machine has of dpkg, and rpm does not know of.
_SYSTEM = """\
Name: system
Version: 1
Release: 1
Summary: What a system has
License: none
BuildArch: noarch
Provides: glibc = 2.36, systemd = 247, libz.so.1()(64bit), /bin/sh
%description
Nothing.
%files
"""


def system(room: Path) -> Path:
    """A package that stands for what every system with rpm has."""
    (room / "system.spec").write_text(_SYSTEM)
    macros = [f"--define=_topdir {room}", f"--define=_rpmdir {room}", f"--define=_dbpath {room}/db"]
    subprocess.run(["rpmbuild", "--quiet", "-bb", *macros, room / "system.spec"], check=True)
    (path,) = room.glob("noarch/*.rpm")
    return path


def manage(machine: BareMachine, *arguments: str) -> Done:
    """What rpm said; it has to succeed, and every scriptlet too."""
    done = run(machine, *arguments)
    print(f"$ rpm {' '.join(arguments)}\n{done.stdout}{done.stderr}")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "scriptlet failed" not in done.stderr, done.stderr
    return done


def run(machine: BareMachine, *arguments: str) -> Done:
    # Debian's rpm wants to hear that dpkg is passed by.
    forced = ["--force-debian"] if arguments[0] in {"--install", "--upgrade", "--erase"} else []
    return machine.run("rpm", *forced, *arguments, timeout_s=120)


def asked(package: Path, *question: str) -> str:
    """What a package says of itself."""
    command = ["rpm", "--dbpath", "/nonexistent", "--query", "--package", *question, str(package)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout
