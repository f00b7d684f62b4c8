"""The relay's core as the packages have it, compiled: its tests pass there as they do in Python."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.support.systemd_tree import PROJECT

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """These sources and tests, with the compiled modules beside their own."""
    tree = tmp_path_factory.mktemp("native")
    sources = shutil.ignore_patterns("__pycache__")  # which others write to meanwhile
    for folder in ("cli", "shimcore", "tests"):
        shutil.copytree(PROJECT / folder, tree / folder, ignore=sources)
    shutil.copy(PROJECT / "pyproject.toml", tree)
    command = [sys.executable, "-P", f"{PROJECT}/packaging/native.py", str(tree)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return tree


def _python(tree: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Python in the tree, whose modules come before those of the project, also in a shim."""
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=tree,
        env={**os.environ, "PYTHONPATH": str(tree)},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )


def test_what_is_compiled(tree: Path) -> None:
    """All of the core and nothing that does I/O, which is given stand-ins in tests."""
    libraries = {path.name.partition(".")[0] for path in tree.glob("shimcore/**/*.so")}
    assert {"connection", "headers", "scanner", "streams", "windows"} <= libraries
    assert not {"proxy_connection", "server", "peer_socket"} & libraries
    loaded = _python(tree, "-c", "import shimcore.relay.scanner as one; print(one.__file__)")
    assert loaded.stdout.strip().startswith(f"{tree}/shimcore/relay/scanner.")
    assert loaded.stdout.strip().endswith(".so"), loaded.stderr


def test_the_relays_tests(tree: Path) -> None:
    """Its units, its properties, and shims as processes."""
    patterns = ("unit/relay", "property/*relay*", "integration/test_relay_answers.py")
    tests = [str(path) for pattern in patterns for path in sorted(tree.glob(f"tests/{pattern}"))]
    ran = _python(tree, "-m", "pytest", "-q", "-p", "no:cacheprovider", *tests)
    assert ran.returncode == 0, ran.stdout[-8000:] + ran.stderr
    assert " passed" in ran.stdout
    assert " skipped" not in ran.stdout
