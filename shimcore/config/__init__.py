"""The configuration: its model, how it is read, and how a change of it is noticed."""

from __future__ import annotations

from shimcore.config.load import load, parse_config
from shimcore.config.masking import masked
from shimcore.config.model import Config, Credentials, Fallback, Names, Registry
from shimcore.config.watching import Watcher

__all__ = [
    "Config",
    "Credentials",
    "Fallback",
    "Names",
    "Registry",
    "Watcher",
    "load",
    "masked",
    "parse_config",
]
