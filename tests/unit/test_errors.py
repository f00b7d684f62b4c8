"""One tree of errors, as its file says."""

from __future__ import annotations

import builtins
import importlib
import inspect
import pkgutil
from collections.abc import Iterator

import cli
import shimcore
from shimcore import errors


def classes() -> Iterator[type[BaseException]]:
    for package in (cli, shimcore):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if ".pb." in module.name or module.name.endswith("__main__"):
                continue
            members = inspect.getmembers(importlib.import_module(module.name), inspect.isclass)
            for _, one in members:
                if issubclass(one, BaseException) and one.__module__ == module.name:
                    yield one


def test_every_error_is_below_one() -> None:
    """Whoever catches ShimError catches whatever the project raises on purpose."""
    found = set(classes())
    assert len(found) > 25
    assert not [one for one in found if not issubclass(one, errors.ShimError)]
    assert not [one for one in found if hasattr(builtins, one.__name__)]


def test_every_error_is_in_the_tree_that_the_file_shows() -> None:
    """A newcomer sees them all at one place."""
    tree = errors.__doc__ or ""
    public = {one.__name__ for one in classes() if not one.__name__.startswith("_")}
    assert {name for name in public if name not in tree} == set()
