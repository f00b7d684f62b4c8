"""`make image` on stand-in bundles: what it is for, and that the Dockerfile agrees with it."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import struct
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import pytest

PROJECT = Path(__file__).parents[2]
BUILDER = PROJECT / "packaging/image"
DOCKERFILE = PROJECT / "contrib/image/Dockerfile"
AMD64, ARM64, RISCV = 62, 183, 243  # e_machine
SYSTEMS = {
    AMD64: ("x86_64-linux-gnu", "/lib64/ld-linux-x86-64.so.2"),
    ARM64: ("aarch64-linux-gnu", "/lib/ld-linux-aarch64.so.1"),
}
TOOLS = ("umoci", "readelf")

built = pytest.mark.skipif(
    any(shutil.which(tool) is None for tool in TOOLS) and not os.environ.get("CI"),
    reason=f"needs {TOOLS}",
)


def program(machine: int, interpreter: str = "") -> bytes:
    """An ELF file of a machine, linked to libraries if something loads it; it does not run."""
    loader = interpreter.encode() + b"\0" if interpreter else b""
    ident = b"\x7fELF\x02\x01\x01" + bytes(9)
    header = struct.pack(
        "<HHIQQQIHHHHHH", 2, machine, 1, 0, 64, 0, 0, 64, 56, bool(loader), 64, 0, 0
    )
    loaded = struct.pack("<IIQQQQQQ", 3, 4, 120, 0, 0, len(loader), len(loader), 1)
    return ident + header + loaded + loader


def bundle(folder: Path, machine: int, name: str = "image-cri-shim-1.2.3-linux-any") -> Path:
    """A tarball as packaging/tarball makes it, with stand-ins."""
    path = folder / f"{name}.tar.gz"
    _, loader = SYSTEMS.get(machine, ("", "/lib/ld.so"))
    files = {"image-cri-shim": program(machine, loader), "lib/module.py": b"", "README.md": b""}
    with tarfile.open(path, "w:gz") as archive:
        for file, content in {**files, "LICENSE": b"", "bundled-licences.txt": b""}.items():
            entry = tarfile.TarInfo(f"{name}/{file}")
            entry.size, entry.mode = len(content), 0o755
            archive.addfile(entry, io.BytesIO(content))
    return path


def system(folder: Path, machine: int) -> Path:
    """A folder with the libraries of an architecture, and its busybox."""
    triplet, loader = SYSTEMS[machine]
    libraries = folder / "system/lib" / triplet
    libraries.mkdir(parents=True)
    (libraries / Path(loader).name).write_bytes(program(machine))
    (folder / "system/bin").mkdir()
    busybox = folder / "system/bin/busybox"
    busybox.write_bytes(program(machine))
    busybox.chmod(0o755)
    return folder / "system"


def image(tarball: Path, root: Path) -> subprocess.CompletedProcess[str]:
    """The builder at work, into the tarball's folder."""
    environment = {**os.environ, "SOURCE_DATE_EPOCH": "1700000000"}
    command = [BUILDER, tarball, tarball.parent, root]
    return subprocess.run(
        command, capture_output=True, text=True, env=environment, timeout=60, check=False
    )


def config(archive: Path) -> dict[str, Any]:
    """The configuration of an image in an OCI archive."""
    with tarfile.open(archive) as layout:

        def read(name: str) -> Any:
            file = layout.extractfile(name)
            assert file is not None
            return json.load(file)

        def blob(descriptor: dict[str, str]) -> Any:
            return read("blobs/" + descriptor["digest"].replace(":", "/"))

        (manifest,) = read("index.json")["manifests"]
        found: dict[str, Any] = blob(blob(manifest)["config"])
        return found


def instructions() -> dict[str, list[str]]:
    """What the Dockerfile says, by instruction, in order."""
    found: dict[str, list[str]] = {}
    for line in DOCKERFILE.read_text().replace("\\\n", " ").splitlines():
        if line and not line.startswith("#"):
            word, _, rest = line.partition(" ")
            found.setdefault(word, []).append(" ".join(rest.split()))
    return found


@built
@pytest.mark.parametrize(("machine", "name"), [(AMD64, "amd64"), (ARM64, "arm64")])
def test_the_architecture_is_that_of_the_bundles_command(
    tmp_path: Path, machine: int, name: str
) -> None:
    """Whatever the tarball is called, and wherever the image is built."""
    done = image(bundle(tmp_path, machine), system(tmp_path, machine))
    assert done.returncode == 0, done.stderr
    found = config(tmp_path / f"image-cri-shim-1.2.3-{name}.oci.tar")
    assert (found["architecture"], found["os"]) == (name, "linux")


@built
def test_a_bundle_for_another_machine_is_refused(tmp_path: Path) -> None:
    """Libraries of one architecture and programs of another are no image."""
    done = image(bundle(tmp_path, ARM64), system(tmp_path, AMD64))
    assert done.returncode == 1
    assert "busybox is not for arm64, which the bundle is for" in done.stderr
    assert not list(tmp_path.glob("*.oci.tar"))


@built
def test_an_architecture_that_is_not_known_is_refused(tmp_path: Path) -> None:
    """No other than those two is published."""
    done = image(bundle(tmp_path, RISCV), system(tmp_path, AMD64))
    assert done.returncode == 1
    assert "is a program for neither amd64 nor arm64" in done.stderr


@built
def test_the_dockerfiles_image_starts_as_this_one(tmp_path: Path) -> None:
    """The same command, folder and labels."""
    done = image(bundle(tmp_path, AMD64), system(tmp_path, AMD64))
    assert done.returncode == 0, done.stderr
    found = config(tmp_path / "image-cri-shim-1.2.3-amd64.oci.tar")["config"]
    said = instructions()
    assert [json.loads(text) for text in said["ENTRYPOINT"]] == [found["Entrypoint"]]
    assert [json.loads(text) for text in said["CMD"]] == [found["Cmd"]]
    assert said["WORKDIR"] == [found["WorkingDir"]]
    labels = dict(pair.split("=") for pair in said["LABEL"][0].split())
    assert {key: value.replace("${VERSION}", "1.2.3") for key, value in labels.items()} == (
        found["Labels"]
    )


def test_the_dockerfile_copies_a_tarball_that_is_built() -> None:
    """Under the name that packaging/tarball gives it, for the architecture of the builder."""
    (name,) = re.findall(r"^name=(.*)$", (PROJECT / "packaging/tarball").read_text(), re.MULTILINE)
    name = name.replace("$version", "${VERSION}").replace("$architecture", "${TARGETARCH}")
    said = instructions()
    assert said["COPY"][0].split()[0] == f"{name}.tar.gz"
    assert f"name={name} " in said["RUN"][0]
    assert "TARGETARCH" in said["ARG"], "a default would hide what the builder sets"


def test_the_dockerfile_takes_of_the_bundle_what_make_image_takes() -> None:
    """The agent puts all of it on its node."""
    taken = [re.findall(r"\$name/([\w.-]+)", path.read_text()) for path in (DOCKERFILE, BUILDER)]
    assert taken[0] == taken[1]
    assert "image-cri-shim" in taken[0]
