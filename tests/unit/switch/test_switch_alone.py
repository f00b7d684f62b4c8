"""One switch at a time on a node."""

from __future__ import annotations

from pathlib import Path

import pytest

from shimcore.errors import ShimError
from shimcore.switch.exchange import LOCK
from shimcore.switch.run import _alone
from shimcore.systemd.root import Root


def test_a_second_switch_is_refused_and_no_lock_stays(tmp_path: Path) -> None:
    """It is told so while the first is under way; afterwards nothing is left in /run."""
    (tmp_path / "run").mkdir()
    root = Root(tmp_path)
    with _alone(root), pytest.raises(ShimError, match="another switch"), _alone(root):
        raise AssertionError("two at once")
    assert not root.exists(LOCK)
    with _alone(root):
        assert root.exists(LOCK)
    assert not root.exists(LOCK)
