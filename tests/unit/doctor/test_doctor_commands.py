"""Commands of mends: they are typed for the configuration that is looked at."""

from __future__ import annotations

import pytest

from shimcore.client.admin import Endpoint


@pytest.mark.parametrize(
    ("file", "named"),
    [
        ("/etc/image-cri-shim.yaml", ""),
        ("/etc/hub.yaml", " -f /etc/hub.yaml"),
        ("/etc/my hub.yaml", " -f '/etc/my hub.yaml'"),
    ],
)
def test_a_command_names_the_file_that_is_not_the_default(file: str, named: str) -> None:
    """Typed as it stands, it is about the same service."""
    endpoint = Endpoint(file, "/run/shim.sock", "/run/shim.sock.admin")
    assert endpoint.command("status") == f"image-cri-shim status{named}"
