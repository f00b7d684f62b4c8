"""The last good configuration: kept with all that it was read from, and found by a bad file."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from shimcore import threads
from shimcore.cluster import starting
from shimcore.cluster.documents import ClusterPart, Document, Kind, keep
from shimcore.cluster.starting import begin, own_start
from shimcore.config import Config, Watcher, files, last_good, load, state
from shimcore.config.last_good import FILE_NAME, keep_good, recall_good
from shimcore.config.load import attempt
from shimcore.config.model import Credentials, KubernetesSource
from shimcore.config.state import StateError
from shimcore.errors import ConfigError

PASSWORD = "pa55-w0rd-zx81"


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("KUBECONFIG", raising=False)
    return tmp_path / "shim.yaml"


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    path.chmod(0o600)
    return path


def kept(path: Path, text: str, *, takes: bool = False) -> Config:
    """A good configuration, kept in its stateDir."""
    tried = attempt(str(write(path, text)))
    assert isinstance(tried.outcome, Config)
    keep_good(tried.outcome.state_dir, str(path), tried.contents, takes=takes)
    return tried.outcome


def part(text: str) -> ClusterPart:
    source = KubernetesSource(enabled=True)
    return ClusterPart(source, {Kind.CONFIG_MAP: Document(text, "1")})


@pytest.mark.parametrize(
    "bad",
    [
        "stateDir: state\nadress: x",
        "stateDir: state\n: [",
        "\tbad\nstateDir:  'state' # here\n",
        '{"stateDir": "state", "address": ["x"]}',
    ],
)
def test_a_bad_file_says_where_the_copy_is(file: Path, tmp_path: Path, bad: str) -> None:
    """As far as it can be read: as YAML, else by the line."""
    (tmp_path / "pass").write_text(f"u:{PASSWORD}\n")
    (tmp_path / "pass").chmod(0o600)
    before = kept(file, "address: h.example\nhub: {passwordFile: pass}\nstateDir: state\n")
    write(file, bad)
    (tmp_path / "pass").unlink()
    start = begin(str(file))
    assert start.config == before
    assert start.config.hub.credentials is not None
    assert start.file_error is not None
    assert start.file_error.faults
    assert start.good_at > 1_500_000_000
    assert PASSWORD not in repr(start)
    # What is watched is the bad file.
    assert Watcher(file, start.config, None, start.contents).check() is None
    write(file, "address: new.example\n")
    config = Watcher(file, start.config, None, start.contents).check()
    assert config is not None
    assert config.hub.host == "new.example"


def test_a_copy_of_another_file_is_none(file: Path, tmp_path: Path) -> None:
    """Two shims may have one stateDir, and one of them is asked about with a typo in its name."""
    kept(file, "address: h.example\nstateDir: state\n")
    other = write(tmp_path / "other.yaml", "adress: x\nstateDir: state\n")
    assert recall_good(str(other)) == (None, ())
    with pytest.raises(ConfigError, match="adress"):
        begin(str(other))


def test_the_copy_of_a_file_that_is_there_stays(file: Path, tmp_path: Path) -> None:
    """The attack: a new file is tried out with the service's stateDir, and then the service's
    has a typo."""
    before = kept(file, "address: h.example\nstateDir: state\n")
    other = tmp_path / "new.yaml"
    with pytest.raises(StateError, match=f"kept for {file}, .* a stateDir of its own in {other}"):
        kept(other, "address: new.example\nstateDir: state\n")
    write(file, "adress: x\nstateDir: state\n")
    assert begin(str(file)).config == before


def test_the_service_has_its_copy_back(file: Path, tmp_path: Path) -> None:
    """From a file that was tried out, as 1.0.0 let it be kept."""
    kept(tmp_path / "new.yaml", "address: new.example\nstateDir: state\n")
    before = kept(file, "address: h.example\nstateDir: state\n", takes=True)
    write(file, "adress: x\nstateDir: state\n")
    assert begin(str(file)).config == before


@pytest.mark.parametrize("named", ["shim.yaml", "conf/shim.yaml"])
def test_a_copy_of_1_0_0_by_a_relative_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, named: str
) -> None:
    """Its other files are found as well."""
    monkeypatch.chdir(tmp_path)
    file = tmp_path / named
    file.parent.mkdir(exist_ok=True)
    write(file.parent / "pass", f"u:{PASSWORD}\n")
    text = f"address: h.example\nhub: {{passwordFile: pass}}\nstateDir: {tmp_path}/state\n"
    kept(file, text)
    copy = tmp_path / "state" / FILE_NAME
    tree = json.loads(copy.read_text())
    tree["files"] = {os.path.relpath(name): held for name, held in tree["files"].items()}
    copy.write_text(json.dumps(tree))
    write(file, text.replace("address", "adress"))
    found, faults = recall_good(str(file))
    assert found is not None
    assert faults == ()
    assert set(found.contents) == {str(file), str(file.parent / "pass")}
    assert begin(str(file)).config.hub.address == "https://h.example"


@pytest.mark.parametrize(
    ("hangs", "is_kept"),
    [("pass", True), ("pass", False), ("ca.pem", True), ("ca.pem", False), ("shim.yaml", True)],
)
def test_a_file_on_a_disk_that_does_not_answer(
    file: Path,
    tmp_path: Path,
    ca_pem: bytes,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    hangs: str,
    is_kept: bool,
) -> None:
    """The copy serves, and that is said; without one the disk is waited for."""
    write(tmp_path / "pass", f"u:{PASSWORD}\n")
    (tmp_path / "ca.pem").write_bytes(ca_pem)
    text = "address: https://h.example\nhub: {passwordFile: pass, caFile: ca.pem}\n"
    if is_kept:
        kept(file, f"{text}stateDir: state\n")
    else:
        write(file, f"{text}stateDir: empty\n")
    read, answers = files.read_file, threading.Event()

    def hanging(path: str) -> tuple[bytes, int]:
        if path == str(tmp_path / hangs):
            files._being_read.append(path)
            answers.wait(30)
            files._being_read.remove(path)
        return read(path)

    monkeypatch.setattr(files, "read_file", hanging)
    monkeypatch.setattr(last_good, "_DEFAULT_FOLDER", str(tmp_path / "state"))
    monkeypatch.setattr(last_good, "_ANSWER_S", 0.1)
    monkeypatch.setattr(threads, "SILENT_S", 0.4)
    answer = threading.Timer(20 if is_kept else 1.0, answers.set)
    answer.start()
    try:
        start = own_start(str(file))
        assert answers.is_set() != is_kept
    finally:
        answers.set()
        answer.cancel()
    assert start.config.hub.address == "https://h.example"
    if is_kept:
        assert str(start.file_error) == f"{file}: {tmp_path / hangs}: it does not answer"
        assert start.config.hub.authority == ca_pem
        assert Watcher(file, start.own).check() is not None
    else:
        assert start.file_error is None
        said = "it does not answer; it is waited for: no copy of the configuration is known"
        assert caplog.messages[0] == f"{file}: {tmp_path / hangs}: {said}"


@pytest.mark.parametrize("bad", ["adress: x", ": ["])
def test_files_beside_the_last_good(file: Path, tmp_path: Path, ca_pem: bytes, bad: str) -> None:
    """An authority that is rotated counts, at the start and later; what is gone, as it was."""
    write(tmp_path / "pass", f"u:{PASSWORD}\n")
    (tmp_path / "ca.pem").write_bytes(ca_pem)
    text = "address: https://h.example\nhub: {passwordFile: pass, caFile: ca.pem}\n"
    kept(file, f"{text}stateDir: state\nkubernetes: {{enabled: true}}\n")
    keep(str(tmp_path / "state"), part("timeout: 1ms"))
    write(file, f"stateDir: state\n{bad}\n")
    (tmp_path / "pass").unlink()
    (tmp_path / "ca.pem").write_bytes(ca_pem * 2)
    start = begin(str(file))
    assert start.config.timeout_s == 1
    assert {start.own.hub.authority, start.config.hub.authority} == {ca_pem * 2}
    assert start.config.hub.credentials == Credentials("u", PASSWORD)
    watcher = Watcher(file, start.config, None, start.contents)
    (tmp_path / "ca.pem").write_bytes(ca_pem * 3)
    assert watcher.put(part("timeout: 7m")).hub.authority == ca_pem * 3
    (tmp_path / "ca.pem").write_text("none")
    assert watcher.put(part("timeout: 8m")).hub.authority == ca_pem * 2
    assert own_start(str(file)).config.hub.authority == ca_pem


def test_many_files_on_a_silent_disk(
    file: Path, tmp_path: Path, ca_pem: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are not waited for one by one: as the copy has them."""
    text = "address: https://h.example\nstateDir: state\nregistries:\n"
    for index in range(200):
        (tmp_path / f"{index}.pem").write_bytes(ca_pem)
        text += f"- {{address: 'https://h{index}.example', caFile: {index}.pem}}\n"
    kept(file, text)
    write(file, "stateDir: state\n: [\n")
    read, answers = files.read_file, threading.Event()

    def hanging(path: str) -> tuple[bytes, int]:
        if path.endswith(".pem"):
            answers.wait(30)
        return read(path)

    monkeypatch.setattr(files, "read_file", hanging)
    monkeypatch.setattr(last_good, "_ANSWER_S", 0.2)
    monkeypatch.setattr(last_good, "_READ_S", 0.5)
    begun = time.monotonic()
    start = own_start(str(file))
    assert time.monotonic() - begun < 5
    answers.set()
    assert {one.authority for one in start.config.registries} == {None, ca_pem}


@pytest.fixture
def silent_state(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What is in a stateDir does not answer."""
    answers = threading.Event()

    def hanging(path: str) -> tuple[bytes, int]:
        files._being_read.append(path)
        answers.wait(30)
        files._being_read.remove(path)
        return files.read_file(path)

    monkeypatch.setattr(state, "read_file", hanging)
    monkeypatch.setattr(starting, "_COPY_S", 0.2)
    monkeypatch.setattr(threads, "SILENT_S", 0.2)
    yield
    answers.set()


@pytest.mark.usefixtures("silent_state")
def test_a_state_dir_that_does_not_answer(file: Path, tmp_path: Path) -> None:
    """Its copy is none: that is a fault beside those of the file, in time."""
    write(file, "adress: x\nstateDir: state\n")
    with pytest.raises(ConfigError) as caught:
        begin(str(file))
    reasons = [str(fault) for fault in caught.value.faults]
    assert reasons[-1] == f"stateDir: {tmp_path}/state/{FILE_NAME}: it does not answer"
    assert any(reason.startswith("adress: unknown key") for reason in reasons)


@pytest.mark.usefixtures("silent_state")
def test_a_copy_of_the_clusters_part_that_does_not_answer(file: Path, tmp_path: Path) -> None:
    """The file alone counts, and that is said."""
    text = "address: h.example\nstateDir: state\nkubernetes: {enabled: true}\n"
    start = begin(str(write(file, text)))
    assert (start.kept, start.file_error) == (None, None)
    assert start.config.hub.host == "h.example"
    said = "it does not answer; the API server alone tells the cluster's part"
    assert start.faults == (f"stateDir: {tmp_path}/state: {said}",)


def test_a_file_that_takes_long(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is read once: its copy is found where it says."""
    before = kept(file, "address: h.example\nstateDir: state\n")
    write(file, "adress: x\nstateDir: state\n")
    read = files.read_file

    def slow(path: str) -> tuple[bytes, int]:
        if path == str(file):
            time.sleep(0.3)
        return read(path)

    monkeypatch.setattr(files, "read_file", slow)
    monkeypatch.setattr(last_good, "_ANSWER_S", 0.1)
    assert begin(str(file)).config == before


def test_the_copy_of_a_file_that_is_gone_is_replaced(file: Path, tmp_path: Path) -> None:
    """As where the configuration has moved."""
    kept(file, "address: h.example\nstateDir: state\n")
    file.unlink()
    other = tmp_path / "new.yaml"
    kept(other, "address: new.example\nstateDir: state\n")
    assert recall_good(str(other))[0] is not None
    assert recall_good(str(file)) == (None, ())


def test_a_copy_that_is_no_good_any_more(file: Path, tmp_path: Path) -> None:
    """As after a downgrade: both faults are said, and it is no start."""
    kept(file, "address: h.example\nstateDir: state\n")
    copy = tmp_path / "state" / FILE_NAME
    tree = json.loads(copy.read_text())
    tree["files"][str(file)] = "bmV3ZXI6IDE="  # newer: 1
    copy.write_text(json.dumps(tree))
    write(file, "adress: x\nstateDir: state\n")
    with pytest.raises(ConfigError) as caught:
        begin(str(file))
    reasons = [str(fault) for fault in caught.value.faults]
    assert "adress: unknown key; did you mean address? (line 1, column 1)" in reasons
    newer = "the last good configuration is none: newer: unknown key (line 1, column 1)"
    assert newer in reasons


@pytest.mark.parametrize("content", ["", "{", "[]", '{"files": {"x": "!"}}', '{"files": 1}'])
def test_a_spoiled_copy(file: Path, tmp_path: Path, content: str) -> None:
    """It is said, without its content; the next good configuration replaces it."""
    kept(file, "address: h.example\nstateDir: state\n")
    (tmp_path / "state" / FILE_NAME).write_text(content)
    assert "not a copy that was kept here" in recall_good(str(file))[1][0]
    kept(file, "address: h.example\nstateDir: state\n")
    assert recall_good(str(file))[0] is not None


@pytest.mark.parametrize("kept_at", ["1e300", "NaN", "Infinity", "-1", "1" * 400, '"x"', "null"])
def test_a_copy_of_no_moment(file: Path, tmp_path: Path, kept_at: str) -> None:
    """It is no copy that was kept here: not the end of a start by an error of its own."""
    kept(file, "address: h.example\nstateDir: state\n")
    copy = tmp_path / "state" / FILE_NAME
    tree = json.loads(copy.read_text())
    copy.write_text(copy.read_text().replace(str(tree["kept_at"]), kept_at))
    write(file, "adress: x\nstateDir: state\n")
    with pytest.raises(ConfigError, match="not a copy that was kept here"):
        begin(str(file))
    kept(file, "address: h.example\nstateDir: state\n")
    assert recall_good(str(file))[0] is not None


def test_what_is_kept_already_is_not_written_again(file: Path, tmp_path: Path) -> None:
    """A start costs the disk nothing."""
    kept(file, "address: h.example\nstateDir: state\n")
    copy = tmp_path / "state" / FILE_NAME
    before = copy.stat()
    kept(file, "address: h.example\nstateDir: state\n")
    assert copy.stat().st_ino == before.st_ino
    assert copy.stat().st_mode & 0o777 == 0o600
    kept(file, "address: other.example\nstateDir: state\n")
    assert copy.stat().st_ino != before.st_ino


def test_more_than_could_be_read_back(tmp_path: Path) -> None:
    """Is not kept, and that is said."""
    with pytest.raises(StateError, match="too long"):
        keep_good(str(tmp_path), "/c.yaml", {"/c.yaml": b"x" * 4_000_000})


def test_authorities_that_are_gone(file: Path, tmp_path: Path, ca_pem: bytes) -> None:
    """Those of the copy count; a FIFO in their place is not opened again."""
    (tmp_path / "ca.pem").write_bytes(ca_pem)
    kept(file, "address: h.example\nhub: {caFile: ca.pem}\nstateDir: state\n")
    (tmp_path / "ca.pem").unlink()
    os.mkfifo(tmp_path / "ca.pem")
    config = begin(str(file)).config
    assert (config.hub.ca_file, config.hub.authority) == (str(tmp_path / "ca.pem"), ca_pem)
    assert config.registries == (config.hub,)


def test_the_cluster_goes_over_the_last_good(file: Path, tmp_path: Path) -> None:
    """Its kept copy at the start, and what it says later, while the file is still bad."""
    text = "address: h.example\nstateDir: state\nkubernetes: {enabled: true}\n"
    kept(file, text)
    keep(str(tmp_path / "state"), part("timeout: 1ms"))
    write(file, f"adress: x\n{text}")
    start = begin(str(file))
    assert start.kept is not None
    assert (start.own.timeout_s, start.config.timeout_s) == (900, 1)
    watcher = Watcher(file, start.config, start.kept.part, start.contents)
    assert watcher.put(part("timeout: 7m")).timeout_s == 420
    assert not watcher.file_is_good
    assert watcher.check() is None
    with pytest.raises(ConfigError, match="ConfigMap kube-system/image-cri-shim: timeout"):
        watcher.put(part("timeout: x"))
    write(file, text)
    config = watcher.check()
    assert config is not None
    assert config.timeout_s == 420
    assert watcher.file_is_good


def test_the_file_turns_bad_while_it_runs(file: Path) -> None:
    """What the cluster says then counts over what the file said before."""
    text = "address: h.example\nkubernetes: {enabled: true}\n"
    watcher = Watcher(file, load(write(file, text)))
    assert watcher.reload().timeout_s == 900
    write(file, "adress: x\n")
    with pytest.raises(ConfigError):
        watcher.check()
    assert watcher.put(part("timeout: 7m")).timeout_s == 420
    assert not watcher.file_is_good
