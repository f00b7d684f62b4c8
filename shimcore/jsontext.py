"""JSON of others, and trees like it: an object in a text, a value in a tree."""

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


def value_at(tree: Any, *keys: str) -> Any:
    """What stands at a path in a tree; None where nothing does."""
    for key in keys:
        tree = tree.get(key) if isinstance(tree, dict) else None
    return tree


def text_at(tree: Any, *keys: str) -> str:
    """The text at a path in a tree; "" where there is none."""
    value = value_at(tree, *keys)
    return value if isinstance(value, str) else ""
