"""The commands and options of the command line as values, read from their signatures."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Annotated, Any, get_args, get_origin, get_type_hints

from typer.models import ArgumentInfo, OptionInfo, TyperInfo

if TYPE_CHECKING:
    import typer

PROGRAM = "image-cri-shim"
_METAVARS = {"FILE": "files", "DIR": "folders"}


@dataclass(frozen=True, slots=True)
class OptionSpec:
    """An option: its spellings, and what its value is (`""`: it takes none)."""

    names: tuple[str, ...]
    help: str
    value: str = ""
    """`files`, `folders`, `words` (one of `words`), `other` or `""`."""
    words: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class CommandSpec:
    """A command (`""`: none yet): its options, and the words that its arguments are of."""

    name: str
    help: str
    options: tuple[OptionSpec, ...]
    words: tuple[str, ...] = ()


def commands(app: typer.Typer, main: Callable[..., object]) -> tuple[CommandSpec, ...]:
    """What may stand before a command (the options of `main`), and every command of `app`."""
    described = [_spec("", main)]
    for each in app.registered_commands:
        if each.callback is not None and not each.hidden:
            described.append(_spec(each.name or each.callback.__name__, each.callback))
    described += [_group(group) for group in app.registered_groups]
    return tuple(described)


def _group(group: TyperInfo) -> CommandSpec:
    """A command with commands below it: their names are its words, their options are its own."""
    below = group.typer_instance.registered_commands if group.typer_instance else []
    specs = [
        _spec(each.name or each.callback.__name__, each.callback) for each in below if each.callback
    ]
    options = {option.names: option for spec in specs for option in spec.options}
    words = tuple(spec.name for spec in specs)
    summary = group.typer_instance.info.help if group.typer_instance else ""
    return CommandSpec(str(group.name), _summary(str(summary)), tuple(options.values()), words)


def _spec(name: str, command: Callable[..., object]) -> CommandSpec:
    options: list[OptionSpec] = []
    words: list[str] = []
    for parameter, hint in get_type_hints(command, include_extras=True).items():
        kind, *notes = get_args(hint) if get_origin(hint) is Annotated else (hint,)
        for note in notes:
            if isinstance(note, OptionInfo) and not note.hidden:
                options.append(_option(parameter, kind, note))
            elif isinstance(note, ArgumentInfo):
                words += _choices(kind)
    options.append(OptionSpec(("-h", "--help"), "Show help and exit"))
    return CommandSpec(name, _summary(command.__doc__), tuple(options), tuple(words))


def _option(parameter: str, kind: Any, info: OptionInfo) -> OptionSpec:
    # In an Annotated option the first spelling stands where else the default would.
    spelled = [each for each in (info.default, *(info.param_decls or ())) if isinstance(each, str)]
    spelled = spelled or ["--" + parameter.replace("_", "-")]
    names = sorted((name for each in spelled for name in each.split("/")), key=len)
    words = _choices(kind)
    value = "" if kind is bool else _METAVARS.get(info.metavar or "", "other")
    return OptionSpec(tuple(names), _summary(info.help), "words" if words else value, words)


def _choices(kind: Any) -> tuple[str, ...]:
    is_enum = isinstance(kind, type) and issubclass(kind, Enum)
    return tuple(str(each.value) for each in kind) if is_enum else ()


def _summary(text: str | None) -> str:
    """The first line, without the full stop."""
    return (text or "").strip().partition("\n")[0].rstrip(".")
