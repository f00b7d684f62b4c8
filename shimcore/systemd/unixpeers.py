"""Which unix sockets a process is connected to, as the kernel knows it (sock_diag(7), unix(7))."""

from __future__ import annotations

import os
import re
import socket
import struct
from collections.abc import Iterator
from pathlib import Path

_SOCK_DIAG = 4  # NETLINK_SOCK_DIAG
_BY_FAMILY = 20  # SOCK_DIAG_BY_FAMILY
_REQUEST_DUMP = 0x301  # NLM_F_REQUEST | NLM_F_DUMP
_ERROR, _DONE = 2, 3  # NLMSG_ERROR, NLMSG_DONE
_SHOW = 0x1 | 0x4  # UDIAG_SHOW_NAME | UDIAG_SHOW_PEER
_NAME, _PEER = 0, 2  # UNIX_DIAG_NAME, UNIX_DIAG_PEER
_HEADER, _ATTRIBUTE = struct.Struct("=IHHII"), struct.Struct("=HH")
_ANSWER_S = 2.0
_LIMIT_BYTES = 1 << 20
_INODE = re.compile(r"socket:\[(\d+)\]")


def connected_paths(process: Path) -> frozenset[str] | None:
    """The paths of the sockets at the other ends of a process's (`/proc/PID`).

    None where that cannot be told: another user's process, a kernel that does not say it.
    """
    try:
        inodes = set(_inodes(process))
        names, peers = _sockets()
    except (OSError, struct.error, IndexError):
        return None
    return frozenset(names[peer] for inode in inodes if (peer := peers.get(inode)) in names)


def _inodes(process: Path) -> Iterator[int]:
    for descriptor in (process / "fd").iterdir():
        try:
            found = _INODE.fullmatch(os.readlink(descriptor))
        except FileNotFoundError:
            continue  # closed meanwhile
        if found:
            yield int(found[1])


def _sockets() -> tuple[dict[int | None, str], dict[int, int]]:
    """The path of each socket that has one, and the other end of each: by their inodes."""
    names: dict[int | None, str] = {}
    peers: dict[int, int] = {}
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _SOCK_DIAG) as asked:
        asked.settimeout(_ANSWER_S)
        # unix_diag_req: family, protocol, pad, states, inode, what to show, cookie.
        request = struct.pack("=BBHIIIII", socket.AF_UNIX, 0, 0, 0xFFFFFFFF, 0, _SHOW, 0, 0)
        size = _HEADER.size + len(request)
        asked.send(_HEADER.pack(size, _BY_FAMILY, _REQUEST_DUMP, 1, 0) + request)
        for body in _messages(asked):
            # unix_diag_msg: family, type, state, pad, inode, cookie; attributes follow.
            inode = int(struct.unpack_from("=I", body, 4)[0])
            for kind, value in _parts(body[16:], _ATTRIBUTE):
                if kind == _NAME and value.startswith(b"/"):
                    names[inode] = os.fsdecode(value.rstrip(b"\0"))
                elif kind == _PEER:
                    peers[inode] = int(struct.unpack("=I", value)[0])
    return names, peers


def _messages(asked: socket.socket) -> Iterator[bytes]:
    """The bodies of a dump, to its end. Raises OSError."""
    while True:
        for kind, body in _parts(asked.recv(_LIMIT_BYTES), _HEADER):
            if kind == _DONE:
                return
            if kind == _ERROR:
                raise OSError("the kernel does not say it")
            yield body


def _parts(data: bytes, header: struct.Struct) -> Iterator[tuple[int, bytes]]:
    """The kind and the body of each message, or attribute; they begin at multiples of four bytes.

    netlink(7). Raises OSError, and struct.error for what is cut off.
    """
    while data:
        size, kind, *_ = header.unpack_from(data)
        if size < header.size:
            raise OSError("the kernel does not say it")
        yield kind, data[header.size : size]
        data = data[(size + 3) & ~3 :]
