"""The package itself: what importing it costs, and its errors."""

from __future__ import annotations

import subprocess
import sys

import grpc

from shimcore.errors import ShimError
from shimcore.runtime.errors import HEAD_LIMIT, TAIL_LIMIT, RuntimeCallError, StatusCode


def test_importing_it_imports_neither_grpc_nor_protobuf() -> None:
    """`--help` does not wait for grpc."""
    script = (
        "import sys, shimcore.runtime.detection, shimcore.runtime.docker;"
        "print([name for name in ('grpc', 'google.protobuf') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True)
    assert done.stdout.strip() == b"[]"


def test_status_codes_are_grpc_s() -> None:
    """Names and numbers are those of grpc.StatusCode."""
    assert {code.name: code.value for code in StatusCode} == {
        code.name: code.value[0] for code in grpc.StatusCode
    }


def test_a_call_error_says_the_status_and_the_runtime_s_words() -> None:
    """Its text has the status by name, its attributes have it by number."""
    error = RuntimeCallError(5, "no such image")
    assert isinstance(error, ShimError)
    assert str(error) == "the runtime answered NOT_FOUND: no such image"
    assert (error.code, error.details) == (5, "no such image")
    assert "status 77" in str(RuntimeCallError(77, ""))


def test_a_call_error_keeps_the_ends_of_a_long_text() -> None:
    """In whole words, so that no half of a password is left at the cut."""
    error = RuntimeCallError(2, "failed to pull: " + "hunter22 " * 200_000 + "403 Forbidden")
    words = error.details.split(" ")
    assert (words[:3], words[-2:]) == (["failed", "to", "pull:"], ["403", "Forbidden"])
    assert set(words[3:-2]) == {"hunter22", "…"}
    assert len(error.details) < HEAD_LIMIT + TAIL_LIMIT
    assert RuntimeCallError(2, "failed: " + "x" * (1 << 20)).details == "failed: … "
