"""docker: `insecure-registries` in daemon.json, `certs.d` for authorities.

The daemon reads both without a restart, which would stop its containers: the list at SIGHUP,
the authorities at each pull (docs.docker.com, dockerd: configuration reload).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Sequence
from itertools import combinations, pairwise
from typing import Any

from shimcore.errors import ShimError
from shimcore.jsontext import object_in
from shimcore.runtime.containerd.route import Wanted
from shimcore.systemd import envfile, unitfile
from shimcore.systemd.changes import Change, Part
from shimcore.systemd.edits import SpliceEdit, first_that_reads
from shimcore.systemd.overlay import NotOursError, Overlay
from shimcore.systemd.root import Root
from shimcore.systemd.runtimes.crio import DOCKER_CERTS, add_authority, is_covered

DAEMON = "/etc/docker/daemon.json"
UNIT = "docker.service"
RELOAD = f"reload {UNIT}"
_KEY = "insecure-registries"
_FLAG = "--insecure-registry"


def wire(root: Root, told: Sequence[Wanted], ours: Collection[str]) -> list[Change]:
    """The changes after which docker reaches the registries. Raises ShimError."""
    del ours  # daemon.json is shared with everybody, whoever made it
    overlay = Overlay(root, Part.RUNTIME)
    insecure = [each.host for each in told if each.is_insecure]
    _list(overlay, insecure)
    for each in told:
        if each.ca_file:
            add_authority(overlay, DOCKER_CERTS, each)
    return overlay.changes()


def _list(overlay: Overlay, hosts: Sequence[str]) -> None:
    words = unitfile.command(overlay, UNIT)
    path = envfile.flag_value(words, "--config-file") or DAEMON
    text = overlay.text(path)
    listed = _listed(path, text)
    flagged = _flagged(words)
    missing = [host for host in hosts if not is_covered(host, [*listed, *flagged])]
    if not missing:
        return
    if flagged:  # dockerd does not start with the flag and the key
        addition = "".join(f"{_FLAG}={host}\n" for host in missing)
        raise NotOursError(f"{UNIT} is started with {_FLAG}", addition)
    edit = _whole(missing) if text is None else _edit(text, missing)
    addition = f'"{_KEY}": {json.dumps(missing)}\n'
    if edit is None:
        raise NotOursError(f"{path} cannot be changed", addition)
    overlay.edit(path, edit, addition, RELOAD)


def _whole(hosts: Sequence[str]) -> SpliceEdit:
    """What makes the file, and takes the hosts alone out of it when it has other keys by then."""
    empty = json.dumps({_KEY: []}, indent=2) + "\n"
    start = f'"{_KEY}": ['
    items = ",".join(f"\n    {json.dumps(host)}" for host in hosts)
    return SpliceEdit((("", empty), (start, f"{start}{items}\n  ")))


def of_whole_file(text: str, is_written: Callable[[str], bool]) -> SpliceEdit:
    """What made a daemon.json that has this text now, by the hosts that are still in it.

    `is_written` knows the text that was written; where no part of the list is that, all is ours.
    """
    try:
        listed = _listed(DAEMON, text)
    except ShimError:
        listed = []
    ends = combinations(range(len(listed) + 1), 2)
    edits = (_whole(listed[start:end]) for start, end in ends)
    return next((each for each in edits if is_written(each.apply(""))), _whole(listed))


def _edit(text: str, hosts: Sequence[str]) -> SpliceEdit | None:
    """What adds to the list, and reads as it should; None where nothing does."""
    tree = _tree(text)
    known = tree.get(_KEY) or []
    items, comma = ", ".join(json.dumps(host) for host in hosts), ", " if known else ""
    found = re.finditer(rf'"{_KEY}"\s*:\s*\[', text)
    pieces = [(each[0], f"{each[0]}{items}{comma}") for each in found]
    found = re.finditer(rf'"{_KEY}"\s*:\s*null', text)  # no list, as docker takes it
    pieces += [(each[0], f'"{_KEY}": [{items}]') for each in found]
    if not text.strip():
        pieces.append(("", f'{{"{_KEY}": [{items}]}}\n'))
    elif _KEY not in tree:
        end = "," if tree else "\n"
        pieces.append(("{", f'{{\n  "{_KEY}": [{items}]{end}'))
    expected = {**tree, _KEY: [*hosts, *known]}
    return first_that_reads(text, (SpliceEdit((each,)) for each in pieces), expected, _tree)


def without(content: bytes, edit: SpliceEdit) -> bytes:
    """daemon.json without the edit's hosts, which another program may have written in its own way.

    The list goes with the last of them, and where it was made with the file.
    """
    made = any(not old for old, _ in edit.pieces)
    ours = {each for _, new in edit.pieces for each in re.findall(r'"([^"]+)"', new)} - {_KEY}
    text = content.decode(errors=envfile.ERRORS)
    tree = object_in(text.removeprefix("\ufeff"))
    if tree is None or not isinstance(listed := tree.get(_KEY), list):
        return content
    left = [each for each in listed if each not in ours]
    if left == listed and (left or not made):
        return content
    tree[_KEY] = left
    if not left:
        del tree[_KEY]
    indent = re.search(r"\n([ \t]+)", text)
    text = json.dumps(tree, indent=indent and indent[1], ensure_ascii=False) + "\n"
    return text.encode(errors=envfile.ERRORS)


def _tree(text: str) -> Any:
    """What dockerd reads: nothing is no keys, and a byte order mark is passed over.

    Raises ValueError.
    """
    text = text.removeprefix("\ufeff").strip()
    return json.loads(text) if text else {}


def _listed(path: str, text: str | None) -> list[str]:
    try:
        tree = _tree(text or "")
    except (ValueError, RecursionError) as error:
        raise ShimError(f"{path}: not JSON: {error}") from error
    listed = tree.get(_KEY) if isinstance(tree, dict) else ""
    if listed is None:
        return []
    if not isinstance(listed, list):
        raise ShimError(f"{path}: `{_KEY}`: a list expected")
    return [each for each in listed if isinstance(each, str)]


def _flagged(words: Sequence[str]) -> list[str]:
    """Hosts that dockerd is started with."""
    found = [word.partition("=")[2] for word in words if word.startswith(f"{_FLAG}=")]
    return found + [after for word, after in pairwise(words) if word == _FLAG]
