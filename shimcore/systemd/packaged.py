"""Units that a package brought: used as they are where they say what is wanted."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from shimcore.systemd import units
from shimcore.systemd.changes import Change
from shimcore.systemd.entries import Link, read
from shimcore.systemd.record import Record
from shimcore.systemd.root import Root

# Where packages put units.
PLACES = ("/usr/lib/systemd/system", "/lib/systemd/system")


def unit_path(root: Root, name: str) -> str | None:
    """Where the unit is: in the administrator's directory, or a package's."""
    for place in (units.UNITS, *PLACES):
        if read(root, f"{place}/{name}") is not None:
            return f"{place}/{name}"
    return None


def place_of(root: Root, wanted: Mapping[str, str], config_file: str) -> str | None:
    """The directory in which a package has just these units; None where it has not."""
    for place in PLACES:
        if all(
            root.text(f"{place}/{name}") in (text, units.waiting(text, config_file))
            for name, text in wanted.items()
        ):
            return place
    return None


def changes(
    root: Root, place: str, names: Iterable[str], links: Iterable[str], known: Record
) -> list[Change]:
    """What the package's units need: to be enabled, and no copies of an earlier version."""
    found = []
    for name in names:
        path = f"{units.UNITS}/{name}"
        if path in known.files:
            found.append(Change(path, None))
    for path in links:
        name = path.rpartition("/")[2]
        if read(root, path) in (None, Link(f"{units.UNITS}/{name}")):
            found.append(Change(path, Link(f"{place}/{name}")))
    return found
