"""Settings: until an ACK has passed, the stricter of old and new is assumed."""

from __future__ import annotations

from shimcore.relay import frames
from shimcore.relay.settings import AnnouncedSettings
from tests.support.wire import WINDOW, setting

TABLE = frames.SETTINGS_HEADER_TABLE_SIZE


def test_the_defaults_hold_at_first() -> None:
    """RFC 9113 §6.5.2."""
    announced = AnnouncedSettings()
    assert announced.window == announced.loosest(WINDOW) == 65_535
    assert announced.loosest(TABLE) == 4096
    assert announced.loosest(frames.SETTINGS_MAX_FRAME_SIZE) == 16_384


def test_old_and_new_hold_until_the_ack() -> None:
    """Smaller holds at once for what is sent, larger only when it is acknowledged."""
    announced = AnnouncedSettings()
    announced.announce(setting(WINDOW, 10))
    assert (announced.window, announced.loosest(WINDOW)) == (10, 65_535)
    announced.acknowledge()
    assert (announced.window, announced.loosest(WINDOW)) == (10, 10)
    announced.announce(setting(WINDOW, 100))
    assert (announced.window, announced.loosest(WINDOW)) == (10, 100)
    announced.acknowledge()
    assert announced.window == 100


def test_acks_come_in_the_order_of_the_announcements() -> None:
    """Each ACK is for the oldest SETTINGS that has none yet (§6.5.3)."""
    announced = AnnouncedSettings()
    announced.announce(setting(WINDOW, 50))
    announced.announce(setting(TABLE, 0) + setting(WINDOW, 80))
    announced.acknowledge()
    assert (announced.window, announced.loosest(TABLE)) == (50, 4096)
    announced.acknowledge()
    assert (announced.window, announced.loosest(TABLE)) == (80, 0)


def test_what_an_ack_stands_for_is_known_before_it_may_pass() -> None:
    """Several may wait, each for the next announcement; one too many stands for the last."""
    announced = AnnouncedSettings()
    for size in (300, 60, 1000):
        announced.announce(setting(TABLE, size))
    assert [announced.ack_arrives(TABLE) for _ in range(2)] == [300, 60]
    assert announced.loosest(TABLE) == 4096
    announced.acknowledge()
    announced.acknowledge()
    assert [announced.ack_arrives(TABLE) for _ in range(2)] == [1000, 1000]


def test_of_a_setting_named_twice_the_last_counts() -> None:
    """Values are processed in the order in which they stand (§6.5.3)."""
    announced = AnnouncedSettings()
    announced.announce(setting(WINDOW, 1) + setting(WINDOW, 70_000) + setting(0x99, 5))
    announced.acknowledge()
    assert announced.window == 70_000


def test_next_shrinks_looks_at_the_next_ack_only() -> None:
    """A smaller value further back has its own ACK."""
    announced = AnnouncedSettings()
    assert not announced.next_shrinks(WINDOW)
    announced.announce(setting(TABLE, 1))
    announced.announce(setting(WINDOW, 1))
    assert not announced.next_shrinks(WINDOW)
    announced.acknowledge()
    assert announced.next_shrinks(WINDOW)


def test_an_ack_too_many_changes_nothing() -> None:
    """The peers' own error, which they answer."""
    announced = AnnouncedSettings()
    announced.acknowledge()
    assert announced.window == 65_535


def test_announcements_without_an_ack_are_bounded() -> None:
    """A flood of SETTINGS does not grow what is remembered; the last values still count."""
    announced = AnnouncedSettings()
    for size in range(1000):
        announced.announce(setting(WINDOW, size))
    assert len(announced._pending) <= 64
    assert announced.loosest(WINDOW) == 999
