"""Changes of a configuration are seen, whichever way its files are changed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from shimcore.config import Config, Watcher, load
from shimcore.errors import ConfigError


def write(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o600)


def watched(path: Path) -> Watcher:
    return Watcher(path, load(path))


def changed(watcher: Watcher) -> Config:
    config = watcher.check()
    assert config is not None
    assert watcher.check() is None
    return config


def test_no_change_is_none(tmp_path: Path) -> None:
    """The same content is no change, whatever its times say."""
    path = tmp_path / "c.yaml"
    write(path, "address: a.example\n")
    watcher = watched(path)
    assert watcher.check() is None
    os.utime(path, (1, 1))
    write(path, "address: a.example\n")
    assert watcher.check() is None


def test_an_edit_in_place(tmp_path: Path) -> None:
    """New content, of the same size and time too, is a new configuration."""
    path = tmp_path / "c.yaml"
    write(path, "address: a.example\n")
    os.utime(path, (1, 1))
    watcher = watched(path)
    write(path, "address: b.example\n")
    os.utime(path, (1, 1))
    assert changed(watcher).hub.host == "b.example"


def test_a_change_between_loading_and_watching(tmp_path: Path) -> None:
    """What counts is the content that the configuration in force was read from."""
    path = tmp_path / "c.yaml"
    write(path, "address: a.example\n")
    config = load(path)
    write(path, "address: b.example\n")
    assert changed(Watcher(path, config)).hub.host == "b.example"


def test_a_file_renamed_over_it(tmp_path: Path) -> None:
    """An atomic replacement is seen."""
    path = tmp_path / "c.yaml"
    write(path, "address: a.example\n")
    watcher = watched(path)
    write(tmp_path / "new", "address: b.example\n")
    (tmp_path / "new").rename(path)
    assert changed(watcher).hub.host == "b.example"


def test_a_swapped_link_as_config_maps_have_it(tmp_path: Path) -> None:
    """kubelet swaps the ..data link of a mounted ConfigMap; the path above it stays."""
    for name, host in (("one", "a.example"), ("two", "b.example")):
        (tmp_path / name).mkdir()
        write(tmp_path / name / "c.yaml", f"address: {host}\n")
    (tmp_path / "..data").symlink_to("one")
    (tmp_path / "c.yaml").symlink_to("..data/c.yaml")
    watcher = watched(tmp_path / "c.yaml")
    assert watcher.check() is None
    (tmp_path / "..tmp").symlink_to("two")
    (tmp_path / "..tmp").rename(tmp_path / "..data")
    assert changed(watcher).hub.host == "b.example"


def test_files_that_it_names(tmp_path: Path, ca_pem: bytes) -> None:
    """A new password or authority is a change, with the configuration file untouched."""
    path = tmp_path / "c.yaml"
    write(tmp_path / "pw", "u:old")
    (tmp_path / "ca").write_bytes(ca_pem)
    write(path, "address: a.example\nhub: {passwordFile: pw, caFile: ca}\n")
    watcher = watched(path)
    write(tmp_path / "pw", "u:new")
    credentials = changed(watcher).hub.credentials
    assert credentials is not None
    assert credentials.password == "new"
    (tmp_path / "ca").write_bytes(ca_pem + b"# another comment\n")
    assert changed(watcher).hub.authority == ca_pem + b"# another comment\n"


def test_a_bad_file_is_told_once_and_mended(tmp_path: Path) -> None:
    """A bad configuration raises once for its content; another bad one raises again."""
    path = tmp_path / "c.yaml"
    write(path, "address: a.example\n")
    watcher = watched(path)
    for bad in ("address: [\n", "adress: a.example\n"):
        write(path, bad)
        with pytest.raises(ConfigError):
            watcher.check()
        assert watcher.check() is None
    write(path, "address: a.example\n")
    assert changed(watcher).hub.host == "a.example"


def test_a_missing_file_that_comes_back(tmp_path: Path) -> None:
    """A file that vanishes is told once; its return is a change."""
    path = tmp_path / "c.yaml"
    write(path, "address: a.example\n")
    watcher = watched(path)
    path.unlink()
    with pytest.raises(ConfigError, match="no such file"):
        watcher.check()
    assert watcher.check() is None
    write(path, "address: b.example\n")
    assert changed(watcher).hub.host == "b.example"


def test_a_named_file_that_comes_later(tmp_path: Path) -> None:
    """A password file that was missing is looked for again, without a new configuration file."""
    path = tmp_path / "c.yaml"
    write(path, "address: a.example\n")
    watcher = watched(path)
    write(path, "address: a.example\nhub: {passwordFile: pw}\n")
    with pytest.raises(ConfigError, match="no such file"):
        watcher.check()
    assert watcher.check() is None
    write(tmp_path / "pw", "u:p")
    assert changed(watcher).hub.credentials_source == "passwordFile"


def test_reload_reads_in_any_case(tmp_path: Path) -> None:
    """A forced reading needs no change, and raises for a bad file each time."""
    path = tmp_path / "c.yaml"
    write(path, "address: a.example\n")
    watcher = watched(path)
    assert watcher.reload() == load(path)
    write(path, "")
    for _ in range(2):
        with pytest.raises(ConfigError):
            watcher.reload()
