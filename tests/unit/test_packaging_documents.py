"""The documents in the packages: what they link to is there, too."""

from __future__ import annotations

import re
import subprocess
import tarfile
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]
NOT_PACKED = {"benchmarks", "shimcore", "tests", "protos"}  # the sources


@pytest.fixture(scope="module", name="tree")
def unpacked_tarball(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the tarball has, of a bundle without files; gathered by `build`'s own lines."""
    folder = tmp_path_factory.mktemp("packed")
    share, bundle = folder / "share", folder / "bundle"
    for each in (bundle, share / "completions", share / "man"):
        each.mkdir(parents=True)
    for name in ("bundled-licences.txt", "image-cri-shim.yaml", "glibc"):
        (share / name).touch()
    text = (PROJECT / "packaging/build").read_text()
    (lines,) = re.findall(r"(?ms)^cp LICENSE .*?^install [^\n]*\n", text)
    subprocess.run(["bash", "-euc", f"share={share}\n{lines}"], cwd=PROJECT, check=True)
    subprocess.run(
        [PROJECT / "packaging/tarball", bundle, share, "1.2.3", "any", folder], check=True
    )
    with tarfile.open(folder / "image-cri-shim-1.2.3-linux-any.tar.gz") as archive:
        archive.extractall(folder, filter="data")
    return folder / "image-cri-shim-1.2.3-linux-any"


def test_links_lead_to_files_of_the_package(tree: Path) -> None:
    """The sources aside."""
    broken = []
    for page in (tree / "README.md", *tree.glob("docs/*.md")):
        for target in re.findall(r"\]\(([^)#:]+)[^):]*\)", page.read_text()):
            file = (page.parent / target).resolve()
            if file.relative_to(tree).parts[0] not in NOT_PACKED and not file.exists():
                broken.append(f"{page.name}: {target}")
    assert broken == []
