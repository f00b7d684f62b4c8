"""Unit files as far as kubelet's and ours need reading (systemd.syntax(7), systemd.service(5))."""

from __future__ import annotations

import re
import shlex
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field

from shimcore.systemd import envfile
from shimcore.systemd.root import Root

# systemd.unit(5): the earlier directory wins.
_DIRECTORIES = (
    "/etc/systemd/system",
    "/run/systemd/system",
    "/usr/local/lib/systemd/system",
    "/usr/lib/systemd/system",
    "/lib/systemd/system",
)
_LINE_END = re.compile(r"\r\n?|\n\r?")
_VARIABLE = re.compile(r"\$\{(\w+)\}")


@dataclass(slots=True)
class ServiceUnit:
    """What a service starts, and with which environment."""

    exec_start: str = ""
    environment: dict[str, str] = field(default_factory=dict)
    """Variables set in the unit itself."""
    files: list[str] = field(default_factory=list)
    """Its environment files; a later one wins."""

    def apply(self, text: str) -> None:
        """Read a unit file, or a drop-in after it."""
        for key, value in _settings(text, "Service"):
            if key == "ExecStart":
                self.exec_start = value
            elif key == "Environment":
                for word in words(value):
                    name, _, content = word.partition("=")
                    self.environment[name] = content
            elif key == "EnvironmentFile":
                self.files = [*self.files, value.removeprefix("-")] if value else []

    def arguments(self, variables: dict[str, str]) -> list[str]:
        """The command line with its variables put in."""
        found: list[str] = []
        for word in words(self.exec_start):
            if re.fullmatch(r"\$\w+", word):
                found += variables.get(word[1:], "").split()
            else:
                found.append(_VARIABLE.sub(lambda name: variables.get(name[1], ""), word))
        return found

    @property
    def program(self) -> str:
        """The name of what is started; "" for nothing."""
        return next(iter(words(self.exec_start)), "").rpartition("/")[2]

    def uses(self, variable: str) -> bool:
        """Whether the command line takes the variable's words."""
        return f"${variable}" in words(self.exec_start)


def read_service(root: Root, name: str, without: Collection[str] = ()) -> ServiceUnit | None:
    """The service unit with its drop-ins but those; None when there is no such unit.

    One that is masked (empty, or a link to /dev/null) is none, wherever another of its name is.
    """
    text = _text_of(root, name)
    if not text:
        return None
    unit = ServiceUnit()
    unit.apply(text)
    for path in drop_ins(root, name):
        if path not in without:
            unit.apply(root.text(path) or "")
    # systemd.unit(5), specifiers: those of k3s and RKE2 have their unit's name.
    unit.files = [path.replace("%N", name.removesuffix(".service")) for path in unit.files]
    return unit


def _text_of(root: Root, name: str) -> str | None:
    """The unit that counts of those of its name; "" for one that is masked."""
    texts = (root.text(f"{each}/{name}") for each in _DIRECTORIES)
    return next((text for text in texts if text is not None), None)


def drop_ins(root: Root, name: str) -> list[str]:
    """Paths of the unit's drop-ins in the order in which they apply."""
    found: dict[str, str] = {}
    for directory in reversed(_DIRECTORIES):
        for each in root.names(f"{directory}/{name}.d"):
            if each.endswith(".conf") and not each.startswith("."):
                found[each] = f"{directory}/{name}.d/{each}"
    return [found[each] for each in sorted(found)]


def file_variables(root: Root, unit: ServiceUnit) -> dict[str, tuple[str, str]]:
    """Variables of the unit's environment files: name → (value, file)."""
    found: dict[str, tuple[str, str]] = {}
    for path in unit.files:
        for name, value in envfile.variables(root.text(path) or "").items():
            found[name] = (value, path)
    return found


def command(root: Root, unit: ServiceUnit) -> list[str]:
    """The command line as systemd has it: with variables of the unit, and of its files."""
    from_files = {name: value for name, (value, _) in file_variables(root, unit).items()}
    return unit.arguments(unit.environment | from_files)


def listening(root: Root, name: str) -> list[str]:
    """The paths that a socket unit listens at (systemd.socket(5)); none without such a unit."""
    text = _text_of(root, name)
    if not text:
        return []
    found: list[str] = []
    for part in (text, *(root.text(path) or "" for path in drop_ins(root, name))):
        for key, value in _settings(part, "Socket"):
            if key == "ListenStream":
                found = [*found, value.replace("%%", "%")] if value else []
    return found


def _settings(text: str, wanted: str) -> list[tuple[str, str]]:
    section = ""
    found = []
    for raw in _lines(text):
        line = raw.strip()
        if line.startswith("[") and line.endswith("]"):
            section = line[1:-1]
        elif section == wanted and "=" in line:
            key, _, value = line.partition("=")
            found.append((key.strip(), value.strip()))
    return found


def _lines(text: str) -> Iterator[str]:
    """The lines without comments, those that end in a backslash joined with what follows.

    systemd, config_parse: a comment is left out first, its backslash with it, also where it stands
    between lines that are joined.
    """
    begun: list[str] = []
    for line in _LINE_END.split(text.removeprefix("\ufeff")):
        if line.lstrip().startswith(("#", ";")):
            continue
        if (len(line) - len(line.rstrip("\\"))) % 2:
            begun.append(f"{line[:-1]} ")
        else:
            yield "".join((*begun, line))
            begun = []
    yield "".join(begun)


def words(text: str) -> list[str]:
    """The words of a command line, their quotes taken away."""
    try:
        return shlex.split(text)
    except ValueError:
        return text.split()
