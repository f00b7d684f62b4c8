"""Time of the tests' own."""

from __future__ import annotations

import pytest

from tests.support.clock import Clock


@pytest.fixture
def clock() -> Clock:
    """Seconds that pass when told to."""
    return Clock(100.0)
