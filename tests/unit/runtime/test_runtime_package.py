"""The package itself: what importing it costs, and its errors."""

from __future__ import annotations

import subprocess
import sys

import grpc

from shimcore.errors import ShimError
from shimcore.runtime.errors import RuntimeCallError, StatusCode


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
