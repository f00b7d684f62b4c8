"""What k3s and RKE2 tell kubelet of its endpoint: by their command, else by their files.

k3s, pkg/configfilearg/parser.go, which RKE2 uses, too.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping, Sequence
from typing import Any

from shimcore.errors import ShimError
from shimcore.systemd.envfile import flag_value
from shimcore.systemd.kubelet import FLAGS, IMAGE_FLAG, RUNTIME_FLAG
from shimcore.systemd.overlay import HEADER
from shimcore.systemd.root import Root
from shimcore.yamlreading import YamlError, first_document

ARGUMENT = "kubelet-arg"
DROP_IN = "99-image-cri-shim.yaml"
_OURS = "-image-cri-shim.yaml"
# Of a command; that of a shell has quotes.
_FLAG = "|".join(flag[2:] for flag in FLAGS)
_GIVEN = re.compile(rf"""--{ARGUMENT}[= ]['"]?(?:--)?((?:{_FLAG})=[^\s'"]+)""")
_CONFIG = re.compile(r"""\s(?:server|agent)\s(?:.*?\s)?(?:--config|-c)[= ]['"]?([^\s'"]+)""")


def given(command: str) -> list[str]:
    """The flags of kubelet's endpoints in the command's arguments for it."""
    return [f"--{each}" for each in _GIVEN.findall(command)]


def main_file(program: str, command: str, variables: Mapping[str, str]) -> str:
    """The file that is read first: as the service's variables or its command have it."""
    named = variables.get(f"{program.upper()}_CONFIG_FILE")
    if not named and (found := _CONFIG.search(command)):
        named = found[1]
    return posixpath.join("/", named or f"etc/rancher/{program}/config.yaml")


def read(root: Root, main: str) -> dict[str, str]:
    """The texts by path: the main file, then the drop-ins in the folder beside it.

    Raises ShimError.
    """
    names = [name for name in root.names(f"{main}.d") if name.lower().endswith((".yaml", ".yml"))]
    return {path: root.text(path) or "" for path in (main, *(f"{main}.d/{each}" for each in names))}


def flags(texts: Mapping[str, str]) -> list[str]:
    """What the files tell kubelet together, in the order of their names. Raises ShimError.

    Of the same key the last file counts; with a `+` it adds to what was there.
    """
    arguments: list[Any] = []
    for path in sorted(texts):
        for key, value in tree(path, texts[path]).items():
            if key in (ARGUMENT, f"{ARGUMENT}+"):
                more = value if isinstance(value, list) else [value]
                arguments = [*arguments, *more] if key.endswith("+") else more
    return [f"--{str(each).strip().removeprefix('--')}" for each in arguments]


def drop_in(main: str, texts: Mapping[str, str], endpoint: str) -> tuple[str, str, list[str]]:
    """Where a file has the last word, its text, and the drop-ins of ours whose place it takes.

    Raises ShimError.
    """
    ours = [
        path for path, each in texts.items() if path.endswith(_OURS) and each.startswith(HEADER)
    ]
    others = {path: each for path, each in texts.items() if path not in ours}
    ends = needed(flags(others))
    text = f"{HEADER}{ARGUMENT}+:\n" + "".join(f"  - {end[2:]}={endpoint}\n" for end in ends)
    path = f"{main}.d/{DROP_IN}"
    told = flags({**others, path: text})
    if any(flag_value(told, end) != endpoint for end in ends):
        path = f"{max(others)}{_OURS}"
    return path, text, [each for each in ours if each != path]


def needed(told: Sequence[str]) -> tuple[str, ...]:
    """The flags to add to those that kubelet is told: where images have one, that as well."""
    return (RUNTIME_FLAG,) if flag_value(told, IMAGE_FLAG) is None else FLAGS


def tree(path: str, text: str | None) -> dict[str, Any]:
    """The keys and values of a file, none where there is no text. Raises ShimError."""
    try:
        found = first_document(text or "") or {}
    except YamlError as error:
        raise ShimError(f"{path}: {error}") from error
    if not isinstance(found, dict):
        raise ShimError(f"{path}: keys and values expected")
    return found
