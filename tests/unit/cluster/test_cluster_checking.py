"""`config check`: every fault with its key path, of a file and of the cluster's manifests."""

from __future__ import annotations

from base64 import b64encode
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from cli.app import app
from shimcore.cluster.checking import checked
from shimcore.errors import ConfigError

MANIFESTS = Path(__file__).parents[3] / "contrib" / "kubernetes"
PASSWORD = "pa55-w0rd-zx81"


def check(path: Path) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, ["config", "check", str(path)])
    return result.exit_code, result.stdout, result.stderr


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    path.chmod(0o600)
    return path


def test_a_good_file(tmp_path: Path) -> None:
    """Exit status 0, one line; notices go to standard error."""
    path = write(tmp_path / "c.yaml", "address: hub.example\nofflinePriority: 99999\nimage: x")
    status, out, err = check(path)
    assert (status, out) == (0, f"{path}: no fault\n")
    assert "offlinePriority" in err
    assert "old keys" in err


def test_a_bad_file(tmp_path: Path) -> None:
    """Exit status 78, a line for each fault, no secret."""
    path = write(
        tmp_path / "c.yaml", f"adress: x\nauth: {PASSWORD}\nregistries: [{{address: 'ftp://x'}}]"
    )
    status, out, err = check(path)
    assert (status, out) == (78, "")
    said = [line for line in err.splitlines() if line.startswith("image-cri-shim: ")]
    assert [line.split(": ")[2] for line in said] == [
        "adress",
        "registries[0].address",
        "address",
    ]
    assert PASSWORD not in err


def test_no_file(tmp_path: Path) -> None:
    """It is a fault of the configuration, too."""
    status, _, err = check(tmp_path / "none.yaml")
    assert status == 78
    assert "no such file" in err


@pytest.mark.parametrize("name", ["configmap.yaml", "secret.yaml"])
def test_the_manifests_that_come_with_it(name: str) -> None:
    """Those of contrib are good."""
    assert checked(str(MANIFESTS / name)) == ()


def test_a_bad_manifest(tmp_path: Path) -> None:
    """What the nodes would refuse is found before it is applied; base64 and plain."""
    text = f"sealos: {{auth: {{username: a, pasword: {PASSWORD}}}}}"
    encoded = b64encode(text.encode()).decode()
    for kind, field, value in (
        ("Secret", "stringData", text),
        ("Secret", "data", encoded),
        ("ConfigMap", "data", text),
        ("ConfigMap", "binaryData", encoded),
    ):
        held = {"kind": kind, field: {"registries.yaml": value}}
        path = write(tmp_path / "manifest.yaml", yaml.safe_dump(held))
        status, _, err = check(path)
        assert status == 78
        assert "registries.yaml: sealos.auth.pasword: unknown key" in err
        assert PASSWORD not in err


def test_a_manifest_of_which_not_all_counts(tmp_path: Path) -> None:
    """What nodes would ignore is said, with status 0."""
    text = f"names: both\ntimeout: 1ms\nsealos: {{auth: {{username: a, password: {PASSWORD}}}}}"
    held = {"kind": "Secret", "stringData": {"registries.yaml": text}}
    path = write(tmp_path / "secret.yaml", yaml.safe_dump(held))
    status, _, err = check(path)
    assert status == 0
    for said in ("names: ignored", "timeout: 1ms is not between", "sealos.auth has no address"):
        assert f"{path}: registries.yaml: {said}" in err
    assert PASSWORD not in err


@pytest.mark.parametrize(
    "manifest",
    [
        "kind: ConfigMap",
        "kind: Secret\ndata: {registries.yaml: '***'}",
        "kind: ConfigMap\ndata: {other: x}",
        "kind: ConfigMap\ndata: {registries.yaml: a}\ndata: {}",
    ],
)
def test_a_manifest_without_a_document(tmp_path: Path, manifest: str) -> None:
    """It is refused with a reason, whatever is in its place."""
    with pytest.raises(ConfigError):
        checked(str(write(tmp_path / "m.yaml", manifest)))
