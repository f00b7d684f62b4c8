"""What is left to the operator, with the text to add."""

from __future__ import annotations

from shimcore.errors import ShimError


class NotOursError(ShimError):
    """A file that is not written to; `addition` is what it needs, ready to be copied."""

    def __init__(self, reason: str, addition: str) -> None:
        super().__init__(f"{reason}; what has to be added:\n{addition}")
        self.reason = reason
        self.addition = addition
