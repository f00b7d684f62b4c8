"""Unit files as far as kubelet's and ours need reading (systemd.syntax(7), systemd.service(5))."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import PurePosixPath

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
_VARIABLE = re.compile(r"\$\$|\$\{(\w+)\}")
_WHOLE = re.compile(r"\$(?:\{(?P<one>\w+)\}|(?P<several>\w+))")


@dataclass(slots=True)
class ServiceUnit:
    """What a service starts, and with which environment."""

    name: str = ""
    exec_start: str = ""
    """As it is written, with its quotes, escapes and specifiers."""
    environment: dict[str, str] = field(default_factory=dict)
    """Variables set in the unit itself, their specifiers as they are written."""
    files: list[str] = field(default_factory=list)
    """Its environment files, or patterns of them; a later one wins."""

    def apply(self, text: str) -> None:
        """Read a unit file, or a drop-in after it."""
        for key, value in _settings(text, "Service"):
            if key == "ExecStart":
                self.exec_start = value
            elif key == "Environment":
                if not value:
                    self.environment = {}
                for name, equals, content in (word.partition("=") for word in _words(value)):
                    if equals:
                        self.environment[name] = content
            elif key == "EnvironmentFile":
                file = self._specified(value.removeprefix("-"))
                new_files = [file] if file.startswith("/") else []
                self.files = [*self.files, *new_files] if value else []

    def arguments(self, variables: Mapping[str, str]) -> list[str]:
        """The command line with its variables put in."""
        return [word for word, _ in self.origins(variables)]

    def origins(self, variables: Mapping[str, str]) -> list[tuple[str, str]]:
        """The words of the command line, each with the variable that gives it, "" for none.

        systemd.service(5), Command lines.
        """

        def put_in(found: re.Match[str]) -> str:
            return variables.get(found[1], "") if found[1] else "$"

        words: list[tuple[str, str]] = []
        for word in map(self._specified, _words(self.exec_start)):
            whole = _WHOLE.fullmatch(word)
            if whole is None:
                words.append((_VARIABLE.sub(put_in, word), ""))
            elif name := whole["one"]:
                words.append((variables.get(name, ""), name))
            else:
                name = whole["several"]
                words += [(each, name) for each in envfile.words(variables.get(name, ""))]
        return words

    @property
    def program(self) -> str:
        """The name of what is started; "" for nothing."""
        return next(iter(_words(self.exec_start)), "").rpartition("/")[2]

    def uses(self, variable: str) -> bool:
        """Whether the command line takes the variable's words."""
        return f"${variable}" in _words(self.exec_start)

    def _specified(self, text: str) -> str:
        """The text with its specifiers put in (systemd.unit(5)); unknown ones stay."""
        stem = self.name.rpartition(".")[0]
        known = {"%": "%", "n": self.name, "N": stem, "p": stem.partition("@")[0], "E": "/etc"}
        return re.sub("%(.)", lambda found: known.get(found[1], found[0]), text)


def read_service(root: Root, name: str, without: Collection[str] = ()) -> ServiceUnit | None:
    """The service unit with its drop-ins but those; None when there is no such unit.

    One that is masked (empty, or a link to /dev/null) is none, wherever another of its name is.
    """
    texts = _texts(root, name, without)
    unit = ServiceUnit(name)
    for text in texts:
        unit.apply(text)
    return unit if texts else None


def _texts(root: Root, name: str, without: Collection[str] = ()) -> list[str]:
    """The unit that counts of those of its name, then its drop-ins; none of one that is masked."""
    units = (_text(root, f"{each}/{name}") for each in _DIRECTORIES)
    unit = next((text for text in units if text is not None), None)
    if not unit:
        return []
    paths = (path for path in drop_ins(root, name) if path not in without)
    return [unit, *(_text(root, path) or "" for path in paths)]


def _text(root: Root, path: str) -> str | None:
    """A file of systemd's: in comments it takes bytes that are not UTF-8."""
    return root.text(path, envfile.ERRORS)


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
    for pattern in unit.files:
        for path in _matching(root, pattern):
            for name, value in envfile.variables(_text(root, path) or "").items():
                found[name] = (value, path)
    return found


def _matching(root: Root, pattern: str) -> list[str]:
    """The paths that a pattern stands for (glob(7)), sorted; a path stands for itself."""
    found = [""]
    for part in PurePosixPath(pattern).parts[1:]:
        if any(each in part for each in "*?["):
            found = [
                f"{above}/{name}"
                for above in found
                for name in root.names(above or "/")
                if fnmatchcase(name, part) and name.startswith(".") <= part.startswith(".")
            ]
        else:
            found = [f"{above}/{part}" for above in found]
    return found


def variables(root: Root, unit: ServiceUnit) -> dict[str, str]:
    """Those of the unit, and of its files, which win."""
    from_files = {name: value for name, (value, _) in file_variables(root, unit).items()}
    return unit.environment | from_files


def command(root: Root, name: str) -> list[str]:
    """The command line of a service with its variables put in; [] when there is no such service."""
    unit = read_service(root, name)
    return [] if unit is None else unit.arguments(variables(root, unit))


def listening(root: Root, name: str) -> list[str]:
    """The paths that a socket unit listens at (systemd.socket(5)); none without such a unit."""
    found: list[str] = []
    for text in _texts(root, name):
        for key, value in _settings(text, "Socket"):
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


def _words(text: str) -> list[str]:
    """The words of a command line, or of a list of variables."""
    return envfile.words(text, c_escapes=True)
