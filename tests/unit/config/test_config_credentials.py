"""Logins from auth, password files and docker config files; authorities."""

from __future__ import annotations

import json
from base64 import b64encode
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from shimcore import tls
from shimcore.config import Config, load
from shimcore.errors import ConfigError


def configured(
    folder: Path, hub: str, *, auth: str = "", address: str = "h.example:5000"
) -> Config:
    path = folder / "c.yaml"
    path.write_text(f"address: {address}\nauth: {auth}\nhub: {hub}\n")
    path.chmod(0o600)
    return load(path)


def private(path: Path, text: str) -> Path:
    path.write_text(text)
    path.chmod(0o600)
    return path


def login(config: Config) -> tuple[str, str, str, str]:
    found = config.hub.credentials
    assert found is not None
    return config.hub.credentials_source, found.username, found.password, found.identity_token


def b64(text: str) -> str:
    return b64encode(text.encode()).decode()


@pytest.mark.parametrize(
    ("auth", "content", "user", "password"),
    [
        ("", "admin:a:b\n", "admin", "a:b"),
        ("", "admin:x\r\n\n", "admin", "x"),
        ("admin", "a:b\n", "admin", "a:b"),
        ("admin", " p \n", "admin", " p "),
    ],
)
def test_password_files(tmp_path: Path, auth: str, content: str, user: str, password: str) -> None:
    """One line: user:password, or the password alone where auth gives the user."""
    private(tmp_path / "pw", content)
    config = configured(tmp_path, "{passwordFile: pw}", auth=auth)
    assert login(config) == ("passwordFile", user, password, "")
    assert config.notices == ()


@pytest.mark.parametrize(
    ("auth", "content", "reason"),
    [
        ("", "s3cret\n", "no colon"),
        ("", "", "is empty"),
        ("", "a:s3cret\nb:s3cret\n", "more than one line"),
        ("u:s3cret", "s3cret", "give it once"),
        ("", None, "no such file"),
    ],
)
def test_wrong_password_files(tmp_path: Path, auth: str, content: str | None, reason: str) -> None:
    """A password file that says too little or too much is a fault without its content."""
    if content is not None:
        private(tmp_path / "pw", content)
    with pytest.raises(ConfigError, match=reason) as caught:
        configured(tmp_path, "{passwordFile: pw}", auth=auth)
    assert caught.value.faults[0].path == "hub.passwordFile"
    assert "s3cret" not in str(caught.value)


def test_a_login_as_a_block_of_yaml(tmp_path: Path) -> None:
    """Its line end is none of the password, nor of the user's name; a space is."""
    block = "|\n  admin:a:b \n"
    assert login(configured(tmp_path, "{}", auth=block)) == ("auth", "admin", "a:b ", "")
    path = private(tmp_path / "password", "a:b\n")
    found = login(configured(tmp_path, f"{{passwordFile: {path}}}", auth="|\n  admin\n"))
    assert found == ("passwordFile", "admin", "a:b", "")


def test_a_password_in_place_of_a_path_is_not_printed(tmp_path: Path) -> None:
    """`passwordFile: admin:passw0rd` is a mistake that must not reach a log."""
    with pytest.raises(ConfigError, match="no such file") as caught:
        configured(tmp_path, "{passwordFile: 'admin:s3cret'}")
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize(
    ("address", "key"),
    [
        ("h.example:5000", "h.example:5000"),
        ("h.example:5000", "https://h.example:5000"),
        ("h.example:5000", "http://H.example:5000/v2/"),
        ("h.example", "h.example:443"),
        ("h.example:443", "h.example"),
        ("http://h.example", "h.example:80"),
        ("http://h.example", "https://h.example"),
        ("hub", "hub"),
        ("docker.io", "https://index.docker.io/v1/"),
        ("docker.io", "registry-1.docker.io"),
    ],
)
def test_docker_config_keys(tmp_path: Path, address: str, key: str) -> None:
    """A key names its host in any of docker's ways."""
    text = json.dumps({"auths": {"other": {"auth": b64("x:y")}, key: {"auth": b64("u:p:w\0")}}})
    private(tmp_path / "config.json", text)
    config = configured(tmp_path, "{dockerConfig: config.json}", address=address)
    assert login(config) == ("dockerConfig", "u", "p:w", "")


@pytest.mark.parametrize(
    ("address", "key"),
    [
        ("h.example", "h.example:80"),
        ("h.example", "http://h.example:80"),
        ("h.example:80", "h.example"),
        ("http://h.example", "h.example:443"),
        ("h.example", "h.example/project"),
    ],
)
def test_docker_config_keys_of_another_server(tmp_path: Path, address: str, key: str) -> None:
    """What listens at another port of the host gets no login of this one, nor the other way."""
    private(tmp_path / "d", json.dumps({"auths": {key: {"auth": b64("u:p")}}}))
    assert configured(tmp_path, "{dockerConfig: d}", address=address).hub.credentials is None


@pytest.mark.parametrize(
    "auth",
    [b64("u:p") + "\n", b64("u:p") + "\r\n", "d\nT\r\npw", b64("u:pw").rstrip("="), b64("u:pw")],
)
def test_base64_as_others_read_it(tmp_path: Path, auth: str) -> None:
    """Go's takes line ends anywhere, as `base64` wraps lines; kubelet's needs no padding."""
    private(tmp_path / "d", json.dumps({"auths": {"h.example:5000": {"auth": auth}}}))
    _, user, password, _ = login(configured(tmp_path, "{dockerConfig: d}"))
    assert (user, password[:1]) == ("u", "p")


@pytest.mark.parametrize("empty", [{}, None, {"auth": ""}, {"username": "u"}])
def test_entries_without_a_login_are_passed_over(tmp_path: Path, empty: object) -> None:
    """Whichever key of the host has one counts; its own name comes first."""
    full = {"auth": b64("u:p")}
    for auths in (
        {"docker.io": empty, "https://index.docker.io/v1/": full},
        {"index.docker.io": empty, "docker.io": full, "registry-1.docker.io": {"auth": b64("x:y")}},
        {"index.docker.io": empty, "https://index.docker.io/v1/": full},
    ):
        private(tmp_path / "d", json.dumps({"auths": auths}))
        config = configured(tmp_path, "{dockerConfig: d}", address="docker.io")
        assert login(config) == ("dockerConfig", "u", "p", "")


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ({"username": "u", "password": "p"}, ("u", "p", "")),
        ({"username": "u", "password": "p", "auth": b64("x:y")}, ("u", "p", "")),
        ({"auth": b64("<token>:"), "identitytoken": "t"}, ("<token>", "", "t")),
    ],
)
def test_docker_config_entries(
    tmp_path: Path, entry: dict[str, str], expected: tuple[str, str, str]
) -> None:
    """An entry has auth, user and password, or an identity token."""
    private(tmp_path / "d", json.dumps({"auths": {"h.example:5000": entry}}))
    assert login(configured(tmp_path, "{dockerConfig: d}"))[1:] == expected


@pytest.mark.parametrize(
    ("document", "notice"),
    [
        ({}, "has no login for"),
        ({"auths": {"h.example:5000/org": {"auth": b64("u:p")}}}, "has no login for"),
        ({"auths": {"h.example:5000": {}}, "credsStore": "pass"}, "credential helper"),
        ({"credHelpers": {"h.example:5000": "ecr"}}, "credential helper"),
    ],
)
def test_a_docker_config_without_a_login_is_noticed(
    tmp_path: Path, document: dict[str, Any], notice: str
) -> None:
    """No login for the host is a notice: the registry is asked without one."""
    private(tmp_path / "d", json.dumps(document))
    config = configured(tmp_path, "{dockerConfig: d}")
    assert config.hub.credentials is None
    assert notice in config.notices[0]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('{"auths": s3cret', "not JSON: line 1"),
        ("[" * 100_000, "not JSON"),
        ("[]", "object expected"),
        ('{"auths": []}', None),
        ('{"auths": ["s3cret"]}', "auths is not an object"),
        ('{"auths": {"h.example:5000": "s3cret"}}', "not an object"),
        ('{"auths": {"h.example:5000": {"auth": "s3cret!"}}}', "not the base64"),
        ('{"auths": {"h.example:5000": {"auth": 5}}}', "non-text"),
        ('{"auths": {"h.example:5000": {"auth": "s3cret"}}}', "not the base64"),
        ('{"auths": {"h.example:5000": {"auth": "dTp w"}}}', "not the base64"),
    ],
)
def test_a_broken_docker_config(tmp_path: Path, text: str, reason: str | None) -> None:
    """A docker config that cannot be understood is a fault without its content."""
    private(tmp_path / "d", text)
    if reason is None:
        assert configured(tmp_path, "{dockerConfig: d}").hub.credentials is None
        return
    with pytest.raises(ConfigError, match=reason) as caught:
        configured(tmp_path, "{dockerConfig: d}")
    assert "s3cret" not in str(caught.value)


def test_one_source_only(tmp_path: Path) -> None:
    """A login in two places is a fault, whichever would have won."""
    private(tmp_path / "d", "{}")
    with pytest.raises(ConfigError, match="one of them only"):
        configured(tmp_path, "{dockerConfig: d}", auth="u:p")
    with pytest.raises(ConfigError, match="one of them only"):
        configured(tmp_path, "{dockerConfig: d, passwordFile: d}")


def test_an_open_password_file_is_noticed_once(tmp_path: Path) -> None:
    """A login file that others can read is a notice."""
    private(tmp_path / "pw", "u:p").chmod(0o604)
    notices = configured(tmp_path, "{passwordFile: pw}").notices
    assert [notice for notice in notices if "mode 0604" in notice] == list(notices)


def test_authorities_are_checked(tmp_path: Path) -> None:
    """A CA file has to be there and to hold PEM certificates; its path is made absolute."""
    for name, reason in (("none.pem", "no such file"), ("c.yaml", "no PEM certificates")):
        with pytest.raises(ConfigError, match=reason) as caught:
            configured(tmp_path, f"{{caFile: {name}}}")
        assert caught.value.faults[0].path == "hub.caFile"


def test_real_authorities_are_accepted(tmp_path: Path, ca_pem: bytes) -> None:
    """PEM with comments of any encoding is a CA file."""
    (tmp_path / "ca.pem").write_bytes(b"# F\xf5tan\xfas\xedtv\xe1ny\n" + ca_pem)
    config = configured(tmp_path, "{caFile: ca.pem}")
    assert config.hub.ca_file == str(tmp_path / "ca.pem")
    assert config.hub.authority == (tmp_path / "ca.pem").read_bytes()
    assert "BEGIN" not in repr(config)
    assert str(tmp_path / "ca.pem") in [file.path for file in config.files]


@pytest.mark.parametrize("good", [True, False])
def test_authorities_that_registries_share(
    tmp_path: Path, ca_pem: bytes, good: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are parsed once, which takes 40 ms for a distribution's, and wrong for each."""
    (tmp_path / "ca.pem").write_bytes(ca_pem if good else b"none")
    parse = mock.Mock(wraps=tls.client_context)
    monkeypatch.setattr(tls, "client_context", parse)
    hosts = "".join(f"- {{address: r{i}.example, caFile: ca.pem}}\n" for i in range(3))
    (tmp_path / "c.yaml").write_text(f"address: h.example\nregistries:\n{hosts}")
    if good:
        config = load(tmp_path / "c.yaml")
        assert [one.ca_file for one in config.registries[1:]] == [str(tmp_path / "ca.pem")] * 3
        assert len({id(one.authority) for one in config.registries[1:]}) == 1
    else:
        with pytest.raises(ConfigError, match="no PEM certificates") as caught:
            load(tmp_path / "c.yaml")
        paths = [fault.path for fault in caught.value.faults]
        assert paths == [f"registries[{i}].caFile" for i in range(3)]
    assert parse.call_count == 1


def test_no_text_of_the_configuration_shows_a_password(tmp_path: Path) -> None:
    """repr and str of the whole model are without secrets."""
    private(tmp_path / "pw", "u:s3cret")
    config = configured(tmp_path, "{passwordFile: pw}")
    assert "s3cret" not in f"{config!r} {config} {config.hub.credentials}"
    assert repr(config.hub.credentials) == "Credentials(***)"
