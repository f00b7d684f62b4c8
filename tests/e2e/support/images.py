"""Images made in Python: busybox from Debian's busybox-static, and small ones to count with."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import random
import ssl
import tarfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

BUSYBOX = Path("/bin/busybox")
APPLETS = ("sh", "sleep", "echo", "cat", "id", "ls", "true", "hostname")
PASSWD = "root:x:0:0:root:/root:/bin/sh\nweb:x:1001:1001:web:/:/bin/sh\n"
GROUP = "root:x:0:\nweb:x:1001:\n"

MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
INDEX = "application/vnd.docker.distribution.manifest.list.v2+json"
CONFIG = "application/vnd.docker.container.image.v1+json"
LAYER = "application/vnd.docker.image.rootfs.diff.tar.gzip"


@dataclass(frozen=True, slots=True)
class Blob:
    """Bytes with the media type and digest under which a registry keeps them."""

    media_type: str
    data: bytes

    @property
    def digest(self) -> str:
        return f"sha256:{hashlib.sha256(self.data).hexdigest()}"

    def descriptor(self) -> dict[str, Any]:
        return {"mediaType": self.media_type, "digest": self.digest, "size": len(self.data)}


@dataclass(frozen=True, slots=True)
class Image:
    """One image for linux/amd64, whole in memory."""

    config: Blob
    layers: tuple[Blob, ...]

    @property
    def manifest(self) -> Blob:
        value = {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": self.config.descriptor(),
            "layers": [layer.descriptor() for layer in self.layers],
        }
        return Blob(MANIFEST, json.dumps(value, indent=1).encode())

    @property
    def digest(self) -> str:
        """The manifest's digest: what an image is pinned by."""
        return self.manifest.digest

    @property
    def id(self) -> str:
        """The config's digest: what the CRI calls the image's id."""
        return self.config.digest


@dataclass(frozen=True, slots=True)
class Entry:
    """One file (or, with `link`, one symbolic link) of a layer."""

    path: str
    data: bytes = b""
    mode: int = 0o644
    link: str = ""


def tar(entries: Iterable[Entry]) -> bytes:
    """A tar archive without times or owners: the same entries give the same bytes."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for entry in entries:
            member = tarfile.TarInfo(entry.path)
            member.mode = entry.mode
            member.size = len(entry.data)
            if entry.link:
                member.type, member.linkname = tarfile.SYMTYPE, entry.link
            archive.addfile(member, io.BytesIO(entry.data))
    return out.getvalue()


def build(layers: Sequence[Sequence[Entry]], **config: Any) -> Image:
    """An image of these layers; `config` are keys of its runtime config (User, Cmd, …)."""
    archives = [tar(entries) for entries in layers]
    value = {
        "architecture": "amd64",
        "os": "linux",
        "created": "2024-01-01T00:00:00Z",
        "config": config,
        "rootfs": {
            "type": "layers",
            "diff_ids": [f"sha256:{hashlib.sha256(a).hexdigest()}" for a in archives],
        },
    }
    blobs = tuple(Blob(LAYER, gzip.compress(a, 6, mtime=0)) for a in archives)
    return Image(Blob(CONFIG, json.dumps(value).encode()), blobs)


def _busybox_files() -> list[Entry]:
    links = [Entry(f"bin/{applet}", link="busybox", mode=0o777) for applet in APPLETS]
    users = [Entry("etc/passwd", PASSWD.encode()), Entry("etc/group", GROUP.encode())]
    return [Entry("bin/busybox", BUSYBOX.read_bytes(), 0o755), *links, *users]


def busybox(marker: str = "", *, user: str = "", command: Sequence[str] = ("sh",)) -> Image:
    """An image that runs; `marker` sets its content (`/marker`) and so its digest apart."""
    config: dict[str, Any] = {"Cmd": list(command), "Env": ["PATH=/bin"]}
    if user:
        config["User"] = user
    return build([_busybox_files(), [Entry("marker", marker.encode())]], **config)


def pause() -> Image:
    """A pod sandbox's image: it only sleeps, by the command that CRI-O expects."""
    command = Entry("pause", b"#!/bin/sh\nexec sleep 2147483647\n", 0o755)
    return build([[*_busybox_files(), command]], Entrypoint=["/pause"], Env=["PATH=/bin"])


def small(marker: str, size_bytes: int = 0) -> Image:
    """An image that cannot run: one layer of its own, of about `size_bytes` on the wire."""
    noise = random.Random(marker).randbytes(size_bytes)
    return build([[Entry("marker", marker.encode()), Entry("noise", noise)]], Cmd=["/marker"])


def layered(marker: str, *sizes: int) -> Image:
    """An image that cannot run, with a layer of its own for each size in bytes."""
    noise = random.Random(marker)
    return build([[Entry(f"noise-{n}", noise.randbytes(s))] for n, s in enumerate(sizes)])


def docker_archive(image: Image, name: str, path: Path) -> Path:
    """Writes what `docker save` would; `ctr images import` gives it that name."""
    config_name = f"{image.config.digest[7:]}.json"
    layer_names = [f"{layer.digest[7:]}.tar.gz" for layer in image.layers]
    listing = [{"Config": config_name, "RepoTags": [name], "Layers": layer_names}]
    entries = [Entry(config_name, image.config.data)]
    entries += [Entry(n, b.data) for n, b in zip(layer_names, image.layers, strict=True)]
    path.write_bytes(tar([*entries, Entry("manifest.json", json.dumps(listing).encode())]))
    return path


class Pusher:
    """Uploads images to one registry over its HTTP API (distribution-spec, “Pushing”)."""

    def __init__(
        self, address: str, authorization: str = "", ca: Path | None = None, host: str = ""
    ) -> None:
        """`host`: what the registry takes itself for, where that is not in the address."""
        told = {"Authorization": authorization, "Host": host}
        headers = {name: value for name, value in told.items() if value}
        verify = ssl.create_default_context(cafile=ca) if ca else True
        self._http = httpx.Client(
            base_url=address, headers=headers, verify=verify, timeout=30, trust_env=False
        )

    def __enter__(self) -> Pusher:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def push(self, image: Image, repository: str, tag: str) -> None:
        """Blobs first, the manifest last; what is there already is not sent again."""
        for blob in (image.config, *image.layers):
            self._push_blob(blob, repository)
        self._put(image.manifest, repository, tag)

    def push_for(self, architecture: str, image: Image, repository: str, tag: str) -> None:
        """An index that has the image for this architecture alone."""
        self.push(image, repository, image.digest)
        platform = {"architecture": architecture, "os": "linux"}
        entry = {**image.manifest.descriptor(), "platform": platform}
        index = {"schemaVersion": 2, "mediaType": INDEX, "manifests": [entry]}
        self._put(Blob(INDEX, json.dumps(index).encode()), repository, tag)

    def _put(self, manifest: Blob, repository: str, tag: str) -> None:
        answer = self._http.put(
            f"/v2/{repository}/manifests/{tag}",
            content=manifest.data,
            headers={"Content-Type": manifest.media_type},
        )
        assert answer.status_code == 201, f"{repository}:{tag}: {answer.status_code} {answer.text}"

    def _push_blob(self, blob: Blob, repository: str) -> None:
        if self._http.head(f"/v2/{repository}/blobs/{blob.digest}").status_code == 200:
            return
        upload = self._http.post(f"/v2/{repository}/blobs/uploads/")
        assert upload.status_code == 202, f"{repository}: {upload.status_code} {upload.text}"
        place = httpx.URL(upload.headers["Location"]).copy_merge_params({"digest": blob.digest})
        answer = self._http.put(place.raw_path.decode(), content=blob.data)
        assert answer.status_code == 201, f"{repository}: {answer.status_code} {answer.text}"
