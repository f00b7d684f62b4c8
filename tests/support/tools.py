"""The programs that make what is generated, as modules: they are in no package."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

PROJECT = Path(__file__).parents[2]


def loaded(path: str) -> ModuleType:
    """The program at a path in the project."""
    name = "tool_" + Path(path).stem
    spec = importlib.util.spec_from_file_location(name, PROJECT / path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look there for their annotations
    spec.loader.exec_module(module)
    return module
