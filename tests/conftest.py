"""What holds for all tests: no property is judged by its time, which is the machine's."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

ALLOWED = settings().suppress_health_check
settings.register_profile(
    "unhurried", deadline=None, suppress_health_check=[*ALLOWED, HealthCheck.too_slow]
)
settings.load_profile("unhurried")
