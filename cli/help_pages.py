"""Help pages: no word is cut or broken at any width, and examples come last."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Iterator
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from cli.examples import EXAMPLES
from cli.render import wrapped

WIDEST = 100
"""Lines longer than this are hard to read."""
_LEFT_WIDEST = 32
_INDENT, _GAP, _FAR = "  ", 2, "      "

Rows = list[tuple[str, str]]


class _Helped:
    def get_help(self, ctx: Any) -> str:
        """The page."""
        return _page(self, ctx)


class HelpedCommand(_Helped, TyperCommand):
    """A command with a page of ours."""


class HelpedGroup(_Helped, TyperGroup):
    """A command with commands below it, with a page of ours."""


def command_group(summary: str, *commands: Callable[..., None]) -> typer.Typer:
    """Commands below one; where none of them follows, it shows its help."""
    group = typer.Typer(
        help=summary, cls=HelpedGroup, invoke_without_command=True, rich_markup_mode=None
    )
    group.callback()(_show_own_help)
    for command in commands:
        group.command(cls=HelpedCommand)(command)
    return group


def _show_own_help(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        print(context.get_help())


def show_help(
    context: typer.Context,
    command: Annotated[
        list[str] | None, typer.Argument(metavar="[COMMAND...]", show_default=False)
    ] = None,
) -> None:
    """Show the help of a command, or this list of them."""
    root = context.find_root()
    root.command.main(
        args=[*(command or ()), "--help"],
        prog_name=root.info_name,
        standalone_mode=False,
    )


def _page(command: Any, context: Any) -> str:
    width = min(shutil.get_terminal_size().columns, WIDEST)
    parts = [
        _usage(command, context, width),
        *(_filled(paragraph, width) for paragraph in (command.help or "").split("\n\n")),
        _list("Arguments", _arguments(command, context), width),
        _list("Options", options(command, context), width),
        _list("Commands", _commands(command), width),
        _examples(context),
    ]
    return "\n\n".join(part for part in parts if part)


def _usage(command: Any, context: Any, width: int) -> str:
    names = [param.metavar or str(param.name) for param in of_kind(command, context, "argument")]
    below = ["COMMAND [ARGS]..."] if hasattr(command, "commands") else []
    words = " ".join(["Usage:", context.command_path, "[OPTIONS]", *names, *below])
    return _wrapped(words, width, "", _FAR)


def of_kind(command: Any, context: Any, kind: str) -> Iterator[Any]:
    """The parameters of a command that are of a kind: `argument` or `option`."""
    return (param for param in command.get_params(context) if param.param_type_name == kind)


def _arguments(command: Any, context: Any) -> Rows:
    """Those with something to be said; the others are in the usage."""
    return [
        (param.metavar or str(param.name), param.help)
        for param in of_kind(command, context, "argument")
        if param.help
    ]


def options(command: Any, context: Any) -> Rows:
    """The options of a command as they are typed, and what each does."""
    records = (param.get_help_record(context) for param in of_kind(command, context, "option"))
    return [(left, right.replace("  [", " [")) for left, right in filter(None, records)]


def _commands(command: Any) -> Rows:
    below: dict[str, Any] = getattr(command, "commands", {})
    return [
        (name, (each.help or "").partition("\n")[0])
        for name, each in below.items()
        if not each.hidden
    ]


def _examples(context: Any) -> str:
    """As they are typed: never wrapped."""
    _, _, path = context.command_path.partition(" ")
    lines = EXAMPLES.get(path, ())
    return "\n".join(["Examples:", *(_INDENT + line for line in lines)]) if lines else ""


def _list(title: str, rows: Rows, width: int) -> str:
    """Names and what is said of them, side by side where the names leave room for it."""
    if not rows:
        return ""
    fitting = [len(left) for left, _ in rows if len(left) <= min(_LEFT_WIDEST, width // 3)]
    column = max(fitting, default=0)
    return "\n".join([f"{title}:", *_lines(rows, column, width)])


def _lines(rows: Rows, column: int, width: int) -> Iterable[str]:
    beside = _INDENT + " " * (column + _GAP)
    for left, right in rows:
        if len(left) <= column:
            yield _wrapped(right, width, f"{_INDENT}{left:<{column}}" + " " * _GAP, beside)
        else:
            yield _INDENT + left
            indent = beside if column else _FAR
            yield _wrapped(right, width, indent, indent)


def _filled(paragraph: str, width: int) -> str:
    return _wrapped(" ".join(paragraph.split()), width, _INDENT, _INDENT)


def _wrapped(text: str, width: int, first: str, others: str) -> str:
    return "\n".join(wrapped(text, width, first, others))
