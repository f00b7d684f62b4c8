"""The configuration: its model, how it is read, and how a change of it is noticed."""

from __future__ import annotations

from shimcore.config.durations import format_duration, parse_duration
from shimcore.config.keys import TOP_KEYS, Key, Kind
from shimcore.config.load import load, parse_config
from shimcore.config.masking import masked
from shimcore.config.model import (
    CacheSettings,
    Config,
    Credentials,
    Fallback,
    LoneLogin,
    Names,
    OnFailure,
    Registry,
)
from shimcore.config.watching import Watcher

__all__ = [
    "TOP_KEYS",
    "CacheSettings",
    "Config",
    "Credentials",
    "Fallback",
    "Key",
    "Kind",
    "LoneLogin",
    "Names",
    "OnFailure",
    "Registry",
    "Watcher",
    "format_duration",
    "load",
    "masked",
    "parse_config",
    "parse_duration",
]
