"""The cluster's documents over the node's file: each key from the last one that may say it.

A document changes what the file leaves to it, and of the rest it may only tighten.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from shimcore.cluster.layers import Ignored, Layer
from shimcore.cluster.places import Places
from shimcore.config.document import Tree
from shimcore.config.model import Config, Fallback
from shimcore.config.overlay import Merged
from shimcore.config.provenance import leaves
from shimcore.config.reading import is_empty

_REGISTRIES = {"address", "auth", "hub", "registries"}
_BY_THEMSELVES = {*_REGISTRIES, "exclude", "fallback", "cache"}

_LOOSER = "somebody before it says deny"
_LETS_OUT = "the node's file says fallback: deny, and excluded names would go out"


def merged(tree: Mapping[str, Tree], own: Config, layers: Sequence[Layer]) -> Merged:
    """`layers`, the later one wins, over the file's `tree`, which by itself is `own`."""
    notes = Ignored()
    values = _Values(tree, own, notes)
    for layer in layers:
        values.merge(layer)
    places = Places(tree, own, layers, notes).merged()
    given = [note for layer in layers for note in layer.notices]
    lone = tuple(login for layer in layers for login in layer.lone_logins)
    return Merged(
        {**values.tree, **places.tree},
        {**values.origins, **places.origins},
        (*given, *notes.lines(), *places.notices),
        lone,
    )


class _Values:
    """Everything but the registries."""

    def __init__(self, tree: Mapping[str, Tree], own: Config, notes: Ignored) -> None:
        self._file_denies = self._is_deny = own.fallback is Fallback.DENY
        self._notes = notes
        self.tree = {name: value for name, value in tree.items() if name not in _REGISTRIES}
        self.origins = dict.fromkeys(leaves(self.tree, ""), own.source)

    def merge(self, layer: Layer) -> None:
        """One layer over what is there."""
        for name, value in layer.tree.items():
            if name not in _BY_THEMSELVES and not is_empty(value):
                self._put(name, value, layer)
        self._cache(layer)
        self._exclude(layer)
        self._fallback(layer)

    def _put(self, name: str, value: Tree, layer: Layer) -> None:
        self.tree[name] = value
        self.origins[name] = layer.origin

    def _cache(self, layer: Layer) -> None:
        above, below = layer.tree.get("cache"), self.tree.get("cache")
        if not isinstance(above, dict):
            return
        given = {key: value for key, value in above.items() if not is_empty(value)}
        self.tree["cache"] = {**(below if isinstance(below, dict) else {}), **given}
        self.origins.update({f"cache.{key}": layer.origin for key in given})

    def _exclude(self, layer: Layer) -> None:
        above, below = layer.tree.get("exclude"), self.tree.get("exclude")
        if not isinstance(above, list) or not above:
            return
        if self._file_denies:
            self._notes.note(layer.origin, "exclude", _LETS_OUT)
            return
        texts = [*(below if isinstance(below, list) else []), *above]
        all_of_them: list[Tree] = list(
            dict.fromkeys(text for text in texts if isinstance(text, str))
        )
        self._put("exclude", all_of_them, layer)

    def _fallback(self, layer: Layer) -> None:
        wanted = layer.tree.get("fallback")
        if not isinstance(wanted, str) or is_empty(wanted):
            return
        if wanted.strip() == Fallback.DENY:
            self._put("fallback", wanted, layer)
            self._is_deny = True
        elif self._is_deny:
            self._notes.note(layer.origin, "fallback", _LOOSER)
