"""JSON of others, of which an object is wanted."""

from __future__ import annotations

import json
from typing import Any


def object_in(content: str | bytes) -> dict[str, Any] | None:
    """The object that a JSON text is; None for what is no JSON, or no object."""
    try:
        tree = json.loads(content)
    except (ValueError, RecursionError):
        return None
    return tree if isinstance(tree, dict) else None


def field_of(tree: Any, *names: str) -> str:
    """The text at a path in a tree; empty where there is none."""
    for name in names:
        tree = tree.get(name) if isinstance(tree, dict) else None
    return tree if isinstance(tree, str) else ""
