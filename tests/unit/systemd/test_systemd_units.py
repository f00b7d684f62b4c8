"""The units' texts."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath

import pytest

from shimcore.errors import ShimError
from shimcore.relay import limits
from shimcore.systemd.bypass import FAILURES, SIGN
from shimcore.systemd.units import (
    BYPASS,
    BYPASS_LINK,
    SERVICE,
    SOCKET,
    UnitSettings,
    bypass_text,
    service_text,
    socket_text,
)

CONTRIB = Path(__file__).parents[3] / "contrib" / "systemd"


@pytest.mark.parametrize(
    ("name", "text"),
    [(SERVICE, service_text()), (SOCKET, socket_text()), (BYPASS, bypass_text())],
)
def test_contrib_has_the_units_that_are_installed(name: str, text: str) -> None:
    """`contrib/systemd` holds the very texts of the default settings."""
    assert (CONTRIB / name).read_text() == text


def test_what_the_code_names_is_what_the_units_name() -> None:
    """The link, the sign and the count of failures are where the code looks for them."""
    assert f"[ -L {BYPASS_LINK} ]" in service_text()
    assert f"{FAILURES}\n" in service_text()
    assert f"ConditionPathIsSymbolicLink={BYPASS_LINK}\n" in bypass_text()
    assert f"RuntimeDirectory={PurePosixPath(SIGN).name}\n" in bypass_text()


def test_the_socket_is_the_one_of_the_configuration() -> None:
    """The socket unit listens where the configuration says, the service can write there."""
    settings = UnitSettings(
        shim_socket="/srv/shim/s.sock", admin_socket="/srv/admin.sock", state_dir="/srv/state"
    )
    assert "ListenStream=/srv/shim/s.sock\n" in socket_text(settings)
    assert "ReadWritePaths=-/srv/shim -/srv -/srv/state\n" in service_text(settings)


def test_the_legacy_directory_is_not_named() -> None:
    """systemd warns about /var/run; the units say /run."""
    settings = UnitSettings(
        shim_socket="/var/run/image-cri-shim.sock",
        admin_socket="/var/run/image-cri-shim.sock.admin",
    )
    assert socket_text(settings) == socket_text()
    assert service_text(settings) == service_text()


def test_words_are_quoted_as_systemd_reads_them() -> None:
    """Spaces, quotes, dollars and percent signs in paths stay what they are."""
    settings = UnitSettings(command="/opt/a b/100%/shim", config_file="/a\\b'$x/100%\"")
    command = '"/opt/a b/100%%/shim" serve --file "/a\\\\b\'$$x/100%%\\""'
    assert f"ExecStart={command}\n" in service_text(settings)
    assert f"{command} --dry-run\n" in service_text(settings)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (UnitSettings(command="/opt/new\nline"), r"'/opt/new\\nline' has a control character"),
        (UnitSettings(config_file="/etc/\udcfc.yaml"), r"udcfc.yaml' .* is not UTF-8"),
        (UnitSettings(shim_socket="/run/\x1b.sock"), "has a control character"),
        (UnitSettings(shim_socket="/run/" + "x" * 110), "^shim: .* is longer"),
        (UnitSettings(shim_socket="/run/x.sock "), "^shim: '/run/x.sock ': .* ends so"),
        (UnitSettings(shim_socket="/run/x\\"), "^shim: .* ends so"),
        (UnitSettings(shim_socket="/run/x/../y.sock"), "^shim: /run/x/../y.sock: .* write it"),
        (UnitSettings(admin_socket="/run/../y.sock"), "^admin: /run/../y.sock: "),
        (UnitSettings(state_dir="/var/lib/.."), "^stateDir: /var/lib/..: "),
        *(
            (UnitSettings(command=f"/opt/a{character}b/shim"), "^the command .* make a link to it")
            for character in "\"'\\$"
        ),
    ],
)
def test_a_path_that_no_unit_can_hold_is_refused(settings: UnitSettings, said: str) -> None:
    """Each as `systemd --test` (252) refuses it, or takes it for another."""
    with pytest.raises(ShimError, match=said):
        service_text(settings) + socket_text(settings)


def test_the_relays_own_bounds_are_below_the_units() -> None:
    """What the relay may hold for 64 busy connections, and what the shim needs beside it."""
    (most,) = re.findall(r"^MemoryMax=(\d+)M$", service_text(), re.MULTILINE)
    held = limits.PROCESS_HELD_BYTES + limits.PROCESS_REQUEST_BYTES + limits.PROCESS_PULL_BYTES
    held += 64 * (limits.HELD_SHARE_BYTES + limits.REQUEST_SHARE_BYTES + limits.PULL_SHARE_BYTES)
    assert int(most) << 20 >= held + (128 << 20)


def test_the_shim_goes_before_pods_whose_memory_is_guaranteed() -> None:
    """kubelet gives those -997 and all others 2 or more."""
    (score,) = re.findall(r"^OOMScoreAdjust=(-\d+)$", service_text(), re.MULTILINE)
    assert -997 < int(score) < 0
