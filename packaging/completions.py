"""Completion scripts, made from the commands themselves: completions.py FOLDER writes them.

For bash without any helper of its own, zsh and fish. They are static: completing a word starts no
Python, since that takes, with typer, more than the 150 ms that a person does not notice.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import typer
from typer.models import ArgumentInfo, OptionInfo, TyperInfo

from cli.app import app, main
from cli.completions import PROGRAM, Shell, file_name

_METAVARS = {"FILE": "files", "DIR": "folders"}
_NOTE = f"# Made by `{PROGRAM} completions SHELL`."
_FUNCTION = "_" + re.sub(r"\W", "_", PROGRAM)
_FILENAMES = "compopt -o filenames\n            "


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
    """A command (`""`: none yet): its options, and what its arguments are of.

    `below`: the commands of a group, each with the group's name before its own.
    """

    name: str
    help: str
    options: tuple[OptionSpec, ...]
    words: tuple[str, ...] = ()
    files: bool = False
    below: tuple[CommandSpec, ...] = ()


_HELP = OptionSpec(("-h", "--help"), "Show help and exit")


def commands(app: typer.Typer, main: Callable[..., object]) -> tuple[CommandSpec, ...]:
    """What may stand before a command (the options of `main`), and every command of `app`."""
    described = [_spec("", main)]
    for each in app.registered_commands:
        if each.callback is not None and not each.hidden:
            described.append(_spec(each.name or each.callback.__name__, each.callback))
    described += [_group(group) for group in app.registered_groups]
    names = tuple(each.name for each in described if each.name)
    return tuple(replace(each, words=names) if each.name == "help" else each for each in described)


def _flat(commands: Sequence[CommandSpec]) -> Iterator[CommandSpec]:
    for each in commands:
        yield each
        yield from each.below


def _group(group: TyperInfo) -> CommandSpec:
    """A command with commands below it: their names are its words."""
    below = group.typer_instance.registered_commands if group.typer_instance else []
    named = {each.name or each.callback.__name__: each.callback for each in below if each.callback}
    specs = tuple(_spec(f"{group.name} {name}", command) for name, command in named.items())
    summary = group.typer_instance.info.help if group.typer_instance else ""
    return CommandSpec(str(group.name), _summary(str(summary)), (_HELP,), tuple(named), below=specs)


def _spec(name: str, command: Callable[..., object]) -> CommandSpec:
    options: list[OptionSpec] = []
    words: list[str] = []
    files = False
    for parameter, hint in get_type_hints(command, include_extras=True).items():
        kind, *notes = get_args(hint) if get_origin(hint) is Annotated else (hint,)
        for note in notes:
            if isinstance(note, OptionInfo) and not note.hidden:
                options.append(_option(parameter, kind, note))
            elif isinstance(note, ArgumentInfo):
                words += _choices(kind)
                files = files or "FILE" in (note.metavar or "")
    options.append(_HELP)
    return CommandSpec(name, _summary(command.__doc__), tuple(options), tuple(words), files)


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


def bash(commands: Sequence[CommandSpec]) -> str:
    """A script for bash 4 and later; needs no bash-completion package."""
    names = " ".join(each.name for each in commands if each.name)
    groups = " | ".join(each.name for each in commands if each.below)
    return f"""\
# bash completion for {PROGRAM}
{_NOTE.replace("SHELL", "bash")}

{_FUNCTION}() {{
    local cur=${{COMP_WORDS[COMP_CWORD]}} prev=${{COMP_WORDS[COMP_CWORD - 1]}}
    local command= word skip= options= words= files= i
    COMPREPLY=()
    # Readline splits `--output=json` at the equals sign.
    if [[ $cur == = ]]; then
        cur=
    elif [[ $prev == = ]] && ((COMP_CWORD > 1)); then
        prev=${{COMP_WORDS[COMP_CWORD - 2]}}
    fi
    for ((i = 1; i < COMP_CWORD; i++)); do
        word=${{COMP_WORDS[i]}}
        if [[ $word == = ]]; then
            continue
        elif [[ -n $skip ]]; then
            skip=
        else
            case $word in
{_bash_valued(commands)}
                -*) ;;
                *)
                    command=${{command:+$command }}$word
                    case $command in
                        {groups}) ;;
                        *) break ;;
                    esac
                    ;;
            esac
        fi
    done
    case $command:$prev in
{_bash_values(commands)}
    esac
    case $command in
{_bash_commands(commands)}
    esac
    if [[ $cur == -* ]]; then
        words=$options
    elif [[ -z $command ]]; then
        words="{names}"
    elif [[ -n $files ]]; then
        {_FILENAMES.replace("    " * 3, "    " * 2)}mapfile -t COMPREPLY < <(compgen -f -- "$cur")
        return
    fi
    mapfile -t COMPREPLY < <(compgen -W "$words" -- "$cur")
}}
complete -F {_FUNCTION} {PROGRAM}
"""


def _bash_valued(commands: Sequence[CommandSpec]) -> str:
    """The options before a command whose next word is their value."""
    names = [name for option in commands[0].options if option.value for name in option.names]
    return f"{' ' * 16}{' | '.join(names)}) skip=1 ;;"


def _bash_values(commands: Sequence[CommandSpec]) -> str:
    pairs = [
        (each.name, option) for each in _flat(commands) for option in each.options if option.value
    ]
    return "\n".join(
        f"        {' | '.join(_bash_word(f'{command}:{name}') for name in option.names)})\n"
        f"{_bash_value(option)}"
        f"            return\n"
        f"            ;;"
        for command, option in pairs
    )


def _bash_value(option: OptionSpec) -> str:
    kinds = {
        "files": f'{_FILENAMES}mapfile -t COMPREPLY < <(compgen -f -- "$cur")',
        "folders": f'{_FILENAMES}mapfile -t COMPREPLY < <(compgen -d -- "$cur")',
        "words": f'mapfile -t COMPREPLY < <(compgen -W "{" ".join(option.words)}" -- "$cur")',
    }
    return f"            {kinds[option.value]}\n" if option.value in kinds else ""


def _bash_commands(commands: Sequence[CommandSpec]) -> str:
    lines = []
    for command in _flat(commands):
        names = " ".join(name for option in command.options for name in option.names)
        words = f' words="{" ".join(command.words)}"' if command.words else ""
        words += " files=1" * command.files
        pattern = _bash_word(command.name)
        lines.append(f'        {pattern}) options="{names}"{words} ;;')
    return "\n".join(lines)


def _bash_word(text: str) -> str:
    return text if text and " " not in text else f'"{text}"'


def zsh(commands: Sequence[CommandSpec]) -> str:
    """A script for zsh's completion system; to be named `_image-cri-shim` in its fpath."""
    first, *rest = commands
    described = "\n".join(f"        {_quoted(f'{each.name}:{each.help}')}" for each in rest)
    cases = "\n".join(_zsh_case(each) for each in rest)
    return f"""\
#compdef {PROGRAM}
{_NOTE.replace("SHELL", "zsh")}

{_FUNCTION}() {{
    local context state state_descr line
    typeset -A opt_args
    local -a commands
    commands=(
{described}
    )
    _arguments -C \\
{_zsh_options(first)} \\
        '1:command:->command' \\
        '*::argument:->argument' && return
    case $state in
        command) _describe -t commands command commands ;;
        argument)
            case $line[1] in
{cases}
            esac
            ;;
    esac
}}

if [[ $funcstack[1] == _{PROGRAM} ]]; then
    {_FUNCTION} "$@"
else
    compdef {_FUNCTION} {PROGRAM}
fi
"""


def _zsh_case(command: CommandSpec) -> str:
    options = _zsh_options(command, indent=20)
    rest = f":word:({' '.join(command.words)})" if command.words else ":argument:"
    rest = ":file:_files" if command.files else rest
    if command.below:
        return _zsh_group(command, options)
    return (
        f"                {command.name.rpartition(' ')[2]})\n"
        f"                    _arguments \\\n    {options.replace(chr(10), chr(10) + '    ')} \\\n"
        f"                        '*{rest}'\n"
        f"                    ;;"
    )


def _zsh_group(group: CommandSpec, options: str) -> str:
    cases = "\n".join(map(_zsh_case, group.below)).replace("\n", "\n        ")
    return (
        f"                {group.name})\n"
        f"                    _arguments -C \\\n    {options} \\\n"
        f"                        '1:command:({' '.join(group.words)})' \\\n"
        f"                        '*::argument:->below' && return\n"
        f"                    case $line[1] in\n"
        f"        {cases}\n"
        f"                    esac\n"
        f"                    ;;"
    )


def _zsh_options(command: CommandSpec, indent: int = 8) -> str:
    return " \\\n".join(" " * indent + line for line in map(_zsh_option, command.options))


def _zsh_option(option: OptionSpec) -> str:
    values = {
        "": "",
        "files": ":file:_files",
        "folders": ":folder:_files -/",
        "words": f":value:({' '.join(option.words)})",
        "other": ":value:",
    }
    help_text = re.sub(r"([\[\]:\\])", r"\\\1", option.help)
    names = option.names
    tail = _quoted(f"[{help_text}]{values[option.value]}")
    if len(names) == 1:
        return names[0] + tail
    return f"'({' '.join(names)})'{{{','.join(names)}}}{tail}"


def fish(commands: Sequence[CommandSpec]) -> str:
    """A script for fish."""
    names = [each.name for each in commands if each.name]
    none_yet = f"not __fish_seen_subcommand_from {' '.join(names)}"
    lines = [f"# fish completion for {PROGRAM}", _NOTE.replace("SHELL", "fish"), ""]
    lines.append(f"complete -c {PROGRAM} -f")
    for command in _flat(commands):
        words = map("__fish_seen_subcommand_from {}".format, command.name.split())
        seen = "; and ".join(words) or none_yet
        if command.name and " " not in command.name:
            lines.append(_fish_line(none_yet, [f"-a {command.name}"], command.help))
        if command.words:
            offered = " ".join(command.words)
            yet = f"; and not __fish_seen_subcommand_from {offered}" if command.below else ""
            lines.append(_fish_line(seen + yet, [f"-a {_quoted(offered)}"], ""))
        if command.files:
            lines.append(_fish_line(seen, ["-F"], ""))
        lines += [_fish_line(seen, _fish_flags(option), option.help) for option in command.options]
    return "\n".join(lines) + "\n"


def _fish_line(condition: str, what: Iterable[str], help_text: str) -> str:
    described = f" -d {_quoted(help_text)}" if help_text else ""
    return f"complete -c {PROGRAM} -n {_quoted(condition)} {' '.join(what)}{described}"


def _fish_flags(option: OptionSpec) -> list[str]:
    flags = [
        f"-l {name[2:]}" if name.startswith("--") else f"-s {name[1:]}" for name in option.names
    ]
    values = {
        "": [],
        "files": ["-r", "-F"],
        "folders": ["-x", "-a '(__fish_complete_directories)'"],
        "words": ["-x", f"-a {_quoted(' '.join(option.words))}"],
        "other": ["-x"],
    }
    return flags + values[option.value]


def _quoted(text: str) -> str:
    """In single quotes, for all three shells."""
    return "'" + text.replace("'", "'\\''") + "'"


def script(shell: Shell) -> str:
    """The script of a shell, its last line ended."""
    write = {Shell.BASH: bash, Shell.ZSH: zsh, Shell.FISH: fish}[shell]
    return write(commands(app, main))


if __name__ == "__main__":
    for _shell in Shell:
        _path = Path(sys.argv[1]) / file_name(_shell)
        _path.write_text(script(_shell), encoding="utf-8")
