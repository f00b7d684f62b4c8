"""The name an image was last seen under on the node: where to look first, never an answer."""

from __future__ import annotations

from collections import OrderedDict

from shimcore.reference import Reference

LIMIT = 4096
"""Images remembered: several times what a node holds (kubelet lists 50 in a node's status)."""


class Hints:
    """Image → the name it was last seen under; a hint that is wrong costs one question.

    `short_names_refused`: the runtime has refused a name without a registry, as CRI-O does where it
    has several to look in, or none. It still takes those that are aliases, or begin an image's ID:
    only itself can tell, each time.
    """

    def __init__(self) -> None:
        self.short_names_refused = False
        self._names: OrderedDict[str, str] = OrderedDict()

    def __len__(self) -> int:
        return len(self._names)

    def name(self, image: Reference) -> str | None:
        """The name the image was last seen under."""
        return self._names.get(str(image))

    def is_own(self, image: Reference) -> bool:
        """True when the image was last seen under the name that people write."""
        own = str(image)
        return self._names.get(own) == own

    def seen(self, image: Reference, name: str) -> None:
        """Takes note of the name; `str(image)` is its own."""
        self._names[str(image)] = name
        self._names.move_to_end(str(image))
        while len(self._names) > LIMIT:
            self._names.popitem(last=False)

    def drop(self, image: Reference) -> None:
        """Forgets one image."""
        self._names.pop(str(image), None)

    def clear(self) -> None:
        """Forgets all: what a removal takes along is known to the runtime alone."""
        self._names.clear()
