"""A wire tap on a Unix socket: everything passes, and is kept in the order in which it came."""

from __future__ import annotations

import contextlib
import socket
import threading
from dataclasses import dataclass, field
from pathlib import Path

from hpack import Decoder

from shimcore.relay import frames

CHUNK_BYTES = 65_536
QUIET_S = 0.3
LAST_S = 5.0


@dataclass(slots=True)
class Conversation:
    """One connection: chunks as (from the client, bytes), in the order in which they came."""

    chunks: list[tuple[bool, bytes]] = field(default_factory=list)

    def sent(self) -> bytes:
        """All that the client said."""
        return b"".join(chunk for from_client, chunk in list(self.chunks) if from_client)

    def answered(self) -> bytes:
        """All that the client heard."""
        return b"".join(chunk for from_client, chunk in list(self.chunks) if not from_client)


class Tap:
    """Listens at `socket` for what is meant for `target`; one Conversation a connection."""

    def __init__(self, socket_path: Path, target: Path) -> None:
        self.socket = socket_path
        self.conversations: list[Conversation] = []
        self._target = target
        self._lock = threading.Lock()
        self._listening = socket.socket(socket.AF_UNIX)
        self._listening.bind(str(socket_path))
        self._listening.listen(64)
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):  # closed
            while True:
                client, _ = self._listening.accept()
                conversation = Conversation()
                self.conversations.append(conversation)
                arguments = (client, conversation)
                threading.Thread(target=self._serve, args=arguments, daemon=True).start()

    def _serve(self, client: socket.socket, conversation: Conversation) -> None:
        with client, socket.socket(socket.AF_UNIX) as server:
            try:
                server.connect(str(self._target))
            except OSError:
                return
            arguments = (server, client, conversation, False)
            back = threading.Thread(target=self._pump, args=arguments, daemon=True)
            back.start()
            self._pump(client, server, conversation, True)
            back.join()

    def _pump(
        self,
        source: socket.socket,
        target: socket.socket,
        conversation: Conversation,
        from_client: bool,
    ) -> None:
        with contextlib.suppress(OSError):
            while chunk := source.recv(CHUNK_BYTES):
                with self._lock:
                    conversation.chunks.append((from_client, chunk))
                target.sendall(chunk)
        with contextlib.suppress(OSError):
            target.shutdown(socket.SHUT_WR)


def cut(data: bytes) -> list[tuple[int, int, int, bytes]]:
    """(type, flags, stream, payload) of each whole frame."""
    found = []
    at = 0
    while len(data) - at >= frames.FRAME_HEADER_BYTES:
        start = at + frames.FRAME_HEADER_BYTES
        end = start + int.from_bytes(data[at : at + 3], "big")
        if end > len(data):
            break
        stream = int.from_bytes(data[at + 5 : start], "big") & frames.STREAM_MASK
        found.append((data[at + 3], data[at + 4], stream, data[start:end]))
        at = end
    return found


def without_window_updates(data: bytes) -> list[tuple[int, int, int, bytes]]:
    """The server's frames that are neither flow control nor of one hop."""
    return [
        frame
        for frame in cut(data)
        if frame[0] != frames.WINDOW_UPDATE and not hop_by_hop(frame, from_client=False)
    ]


def hop_by_hop(frame: tuple[int, int, int, bytes], *, from_client: bool) -> bool:
    """Whether it is of one hop alone: the client's PINGs and their ACKs, which the shim sends."""
    kind, flags, _, _ = frame
    return kind == frames.PING and bool(flags & frames.ACK) != from_client


def passed_on(data: bytes, *, from_client: bool) -> bytes:
    """Everything but PINGs of one hop, as it came; a frame that is not whole is left out."""
    start = len(frames.PREFACE) if from_client else 0
    whole = (
        frames.frame(*frame)
        for frame in cut(data[start:])
        if not hop_by_hop(frame, from_client=from_client)
    )
    return data[:start] + b"".join(whole)


def pings(data: bytes, *, from_client: bool) -> list[bytes]:
    """The payloads of one hop's PINGs (of the client) or of their ACKs, in order."""
    start = len(frames.PREFACE) if from_client else 0
    return [f[3] for f in cut(data[start:]) if hop_by_hop(f, from_client=from_client)]


class Heard:
    """Answers as they come in: how many calls they end, how many bytes of DATA they have."""

    def __init__(self) -> None:
        self.bytes = bytearray()
        self.ends = 0
        self.data_bytes = 0
        self._at = 0

    def add(self, chunk: bytes) -> None:
        self.bytes += chunk
        size = len(self.bytes)
        while size - self._at >= frames.FRAME_HEADER_BYTES:
            length = int.from_bytes(self.bytes[self._at : self._at + 3], "big")
            if self._at + frames.FRAME_HEADER_BYTES + length > size:
                return
            kind, flags = self.bytes[self._at + 3], self.bytes[self._at + 4]
            self._at += frames.FRAME_HEADER_BYTES + length
            if kind == frames.DATA:
                self.data_bytes += length
            may_end = kind in {frames.DATA, frames.HEADERS}
            self.ends += kind == frames.RST_STREAM or (may_end and flags & frames.END_STREAM)

    def as_far_as(self, other: Heard) -> bool:
        """Whether it has come as far as another one."""
        return self.ends >= other.ends and self.data_bytes >= other.data_bytes


@dataclass(slots=True)
class Answer:
    """What one call was answered: header lists in order, the bytes of all DATA, a reset's code."""

    headers: list[tuple[tuple[bytes, bytes], ...]] = field(default_factory=list)
    data: bytes = b""
    reset: int | None = None
    ended: bool = False


def answers(data: bytes) -> dict[int, Answer]:
    """Stream → answer. The header tables of the whole connection have to be in step for it."""
    decoder = Decoder(max_header_list_size=1 << 22)
    decoder.max_allowed_table_size = 1 << 20
    found: dict[int, Answer] = {}
    block = b""
    for kind, flags, stream, payload in cut(data):
        answer = found.setdefault(stream, Answer()) if stream else Answer()
        start, end = frames.unpadded(payload, 0, len(payload), flags)
        if kind == frames.DATA:
            answer.data += payload[start:end]
        elif kind == frames.RST_STREAM:
            answer.reset = int.from_bytes(payload, "big")
        elif kind in {frames.HEADERS, frames.CONTINUATION}:
            first = kind == frames.HEADERS
            block = (
                frames.header_fragment(payload, 0, len(payload), flags)
                if first
                else (block + payload)
            )
            if flags & frames.END_HEADERS:
                fields = decoder.decode(block, raw=True)
                answer.headers.append(tuple((bytes(n), bytes(v)) for n, v in fields))
        if kind in {frames.DATA, frames.HEADERS} and flags & frames.END_STREAM:
            answer.ended = True
    return {stream: answer for stream, answer in found.items() if stream}


def replay(conversation: Conversation, target: Path) -> bytes:
    """What is heard when the same client frames are said again, in step with the answers.

    A frame goes out when as much has been heard as when it was recorded, or when nothing more
    comes: servers share a window between calls in another order each time. PINGs stay away:
    they measure the recorded connection, and out of step with its data they are a nuisance
    that servers end a connection for.
    """
    heard, original = Heard(), Heard()
    said = bytearray()
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(target))
        client.sendall(frames.PREFACE)
        at = len(frames.PREFACE)
        for from_client, chunk in conversation.chunks:
            if not from_client:
                original.add(chunk)
                continue
            said += chunk
            whole = bytes(said[at:])
            for kind, flags, stream, payload in cut(whole):
                at += frames.FRAME_HEADER_BYTES + len(payload)
                if kind != frames.PING:
                    _hear(client, heard, original, QUIET_S)
                    client.sendall(frames.frame(kind, flags, stream, payload))
        original.data_bytes = 0  # of calls that were given up, more or less may come
        _hear(client, heard, original, LAST_S)
    return bytes(heard.bytes)


def _hear(client: socket.socket, heard: Heard, original: Heard, quiet_s: float) -> None:
    """Until it is as far as the original, or nothing has come for so long."""
    client.settimeout(quiet_s)
    with contextlib.suppress(TimeoutError):
        while not heard.as_far_as(original):
            chunk = client.recv(CHUNK_BYTES)
            if not chunk:
                return
            heard.add(chunk)
