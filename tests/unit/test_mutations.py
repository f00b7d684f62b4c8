"""The list of `make mutants`, which CI does not run."""

from __future__ import annotations

from tests.mutation.__main__ import MUTATIONS, ROOT


def test_each_mutation_has_one_place_in_the_source() -> None:
    """What is to be broken is there once, and another thing afterwards."""
    relay = ROOT / "shimcore" / "relay"
    lost = [m.name for m in MUTATIONS if (relay / m.file).read_text().count(m.old) != 1]
    same = [m.name for m in MUTATIONS if m.old == m.new]
    assert (lost, same) == ([], [])


def test_no_two_mutations_have_one_name() -> None:
    """A name is what picks one on the command line."""
    assert len({mutation.name for mutation in MUTATIONS}) == len(MUTATIONS)
