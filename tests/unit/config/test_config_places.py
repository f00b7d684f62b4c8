"""Where in the file a fault is, and that pointing at it shows no secret."""

from __future__ import annotations

from pathlib import Path

import pytest

from shimcore.config import parse_config
from shimcore.errors import ConfigError, ConfigFault


def faults(text: str, source: str = "test.yaml") -> dict[str, ConfigFault]:
    with pytest.raises(ConfigError) as caught:
        parse_config(text, source)
    return {fault.path: fault for fault in caught.value.faults}


def pointing(text: str, path: str) -> tuple[int, int, list[str]]:
    place = faults(text)[path].place
    assert place is not None
    return place.line, place.column, place.pointing()


@pytest.mark.parametrize(
    ("line", "path", "column", "shown", "carets"),
    [
        ("timeout: 5 minutes # why", "timeout", 10, "timeout: 5 minutes", "         ^^^^^^^^^"),
        ("timeout:\t5x\t# why", "timeout", 10, "timeout: 5x", "         ^^"),
        ("hub:\t{path: x,\tcaFil: s3cret}", "hub.caFil", 16, "caFil:", "^^^^^"),
        ("'timeout':   '5x'", "timeout", 14, "timeout: '5x'", "         ^^^^"),
        ("adress: s3cret", "adress", 1, "adress:", "^^^^^^"),
        ("hub: {path: x, caFil: s3cret}", "hub.caFil", 16, "caFil:", "^^^^^"),
        (
            "registries: [{address: a.b, priority: s}]",
            "registries[0].priority",
            39,
            "priority: s",
            "          ^",
        ),
        ("exclude: [nginx, {}]", "exclude[1]", 18, "-", "^"),
        ("debug: [true]", "debug", 1, "debug:", "^^^^^"),
        ("'s3cret: x': 1", "(a key that is not a plain word)", 1, "-", "^"),
    ],
)
def test_a_fault_points_at_its_text(
    line: str, path: str, column: int, shown: str, carets: str
) -> None:
    """Line and column are the file's; the text is the key, and the value that the reason has."""
    assert pointing(f"address: h.example\n{line}\n", path) == (
        2,
        column,
        [f"    2 | {shown}", f"      | {carets}"],
    )


def test_what_an_alias_repeats_is_found_around_it() -> None:
    """A value that stands elsewhere is pointed at by the key that repeats it."""
    text = "address: h.example\nhub: &o {path: bad}\nregistries:\n- {address: a.b, <<: *o}\n"
    found = faults(text)
    assert found["hub.path"].place == faults(text)["hub.path"].place
    place = found["registries[0].path"].place
    assert place is not None
    assert place.line == 4


def test_faults_come_in_the_order_of_the_file() -> None:
    """Those of keys that are missing come last."""
    assert list(faults("timeout: x\nbogus: 1\ndebug: x\n")) == [
        "timeout",
        "bogus",
        "debug",
        "address",
    ]


@pytest.mark.parametrize(
    "text",
    [
        "auth: s3cret",
        "auth: {username: admin, password: s3cret}",
        "auth: [s3cret]",
        "auht: admin:s3cret",
        "registries: [{address: a.b, auth: s3cret, priority: high, pasword: s3cret}]",
        "registries:\n- {address: 'http://u:s3cret@a.b'}",
        "timeout: 5x # s3cret",
        "hub: {passwordFile: s3cret}",
        "hub: {passwordFile: 'admin:s3/cret'}",
        "hub: {dockerConfig: s3cret}",
        "s3cret x: 1",
        "address: 's3cret x'",
    ],
)
def test_no_secret_is_shown(text: str) -> None:
    """Neither of the line at fault nor of those around it."""
    whole = text if text.startswith("address") else f"address: h.example\n{text}\n"
    for fault in faults(whole).values():
        shown = str(fault) + "".join(fault.place.pointing() if fault.place else [])
        assert "s3" not in shown
        assert "cret" not in shown


def test_a_login_of_keys_and_values_is_told_its_form() -> None:
    """`auth` is one text."""
    reason = faults("address: h.example\nauth: {username: a, password: b}\n")["auth"].reason
    assert reason == "user:password expected, as one text, not keys and values"


@pytest.mark.parametrize("key", ["passwordFile", "dockerConfig", "caFile"])
def test_a_missing_file_is_named(tmp_path: Path, key: str) -> None:
    """By its path, or for a bare word, which may be a password, by its folder."""
    source = str(tmp_path / "shim.yaml")
    found = faults(f"address: h.example\nhub: {{{key}: /nowhere/file}}\n", source)
    assert "/nowhere/file" in found[f"hub.{key}"].reason
    assert "no such file" in found[f"hub.{key}"].reason
    if key != "caFile":
        found = faults(f"address: h.example\nhub: {{{key}: file}}\n", source)
        assert found[f"hub.{key}"].reason == f"no such file: below {tmp_path}"


@pytest.mark.parametrize(
    ("line", "path"),
    [
        ("address: http://${HUB}:5000", "address"),
        ("address: a.b\ntimeout: $TIMEOUT", "timeout"),
        ("address: a.b\nauth: ${HUB_AUTH}", "auth"),
        ("address: a.b\nhub: {passwordFile: '/x/${NAME}'}", "hub.passwordFile"),
    ],
)
def test_variables_are_not_expanded(line: str, path: str) -> None:
    """A text with one that is at fault for it is told so."""
    assert "variables such as ${NAME} are not expanded" in faults(line)[path].reason


def test_a_login_with_a_variable_is_warned_of() -> None:
    """It may be a password all the same."""
    config = parse_config("address: h.example\nauth: admin:${PASSWORD}\n", "test.yaml")
    [notice] = config.notices
    assert notice.startswith("auth: taken as it stands; variables such as")


@pytest.mark.parametrize(
    ("auth", "warned"),
    [
        ("admin:pa #ss", True),
        ("admin:pa   #ss", True),
        ("admin:pass # the hub's", False),
        ("'admin:pa #ss'", False),
        ("admin:pa#ss", False),
    ],
)
def test_a_comment_that_cuts_a_password(auth: str, warned: bool) -> None:
    """Is warned of, with its line, and nothing of it is shown."""
    config = parse_config(f"address: h.example\nauth: {auth}\n", "test.yaml")
    assert [notice.partition(":")[0] for notice in config.notices] == ["auth"] * warned
    assert "#ss" not in "".join(config.notices)
    assert not warned or "line 2" in config.notices[0]


@pytest.mark.parametrize("listen", ["':99999'", "'127.0.0.1:65536'", "70000"])
def test_a_port_out_of_range_is_called_that(listen: str) -> None:
    """It is a port, and no port that there is."""
    found = faults(f"address: h.example\nmetrics: {listen}\n")
    assert "a port out of range, 1 to 65535" in found["metrics"].reason
