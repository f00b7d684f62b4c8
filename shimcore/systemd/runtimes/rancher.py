"""What k3s and RKE2 tell kubelet of its endpoint: by their command, else by their files.

k3s, pkg/configfilearg/parser.go, which RKE2 uses, too.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping
from typing import Any

from shimcore.errors import ShimError
from shimcore.systemd.envfile import flag_value
from shimcore.systemd.kubelet import RUNTIME_FLAG
from shimcore.systemd.overlay import HEADER
from shimcore.systemd.root import Root
from shimcore.yamlreading import YamlError, first_document

ARGUMENT = "kubelet-arg"
DROP_IN = "99-image-cri-shim.yaml"
_OURS = "-image-cri-shim.yaml"
# Of a command; that of a shell has quotes.
_GIVEN = re.compile(rf"""--{ARGUMENT}[= ]['"]?(?:--)?{RUNTIME_FLAG[2:]}=([^\s'"]+)""")
_CONFIG = re.compile(r"""\s(?:server|agent)\s(?:.*?\s)?(?:--config|-c)[= ]['"]?([^\s'"]+)""")


def given(command: str) -> str | None:
    """The endpoint in the command's arguments for kubelet, the last one counting."""
    return next(reversed(_GIVEN.findall(command)), None)


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


def endpoint(texts: Mapping[str, str]) -> str | None:
    """What the files tell kubelet together, in the order of their names. Raises ShimError.

    Of the same key the last file counts; with a `+` it adds to what was there.
    """
    arguments: list[Any] = []
    for path in sorted(texts):
        for key, value in tree(path, texts[path]).items():
            if key in (ARGUMENT, f"{ARGUMENT}+"):
                more = value if isinstance(value, list) else [value]
                arguments = [*arguments, *more] if key.endswith("+") else more
    flags = [f"--{str(each).strip().removeprefix('--')}" for each in arguments]
    return flag_value(flags, RUNTIME_FLAG)


def drop_in(main: str, texts: Mapping[str, str], text: str) -> tuple[str, list[str]]:
    """Where `text` has the last word, and the drop-ins of ours whose place it takes.

    Raises ShimError.
    """
    ours = [
        path for path, each in texts.items() if path.endswith(_OURS) and each.startswith(HEADER)
    ]
    others = {path: each for path, each in texts.items() if path not in ours}
    path = f"{main}.d/{DROP_IN}"
    if endpoint({**others, path: text}) != endpoint({path: text}):
        path = f"{max(others)}{_OURS}"
    return path, [each for each in ours if each != path]


def tree(path: str, text: str | None) -> dict[str, Any]:
    """The keys and values of a file, none where there is no text. Raises ShimError."""
    try:
        found = first_document(text or "") or {}
    except YamlError as error:
        raise ShimError(f"{path}: {error}") from error
    if not isinstance(found, dict):
        raise ShimError(f"{path}: keys and values expected")
    return found
