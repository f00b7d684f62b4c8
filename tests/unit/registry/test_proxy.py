"""Which proxy: Go's rules."""

from __future__ import annotations

import pytest

from shimcore.registry.proxy import ProxyRules


def proxy_for(url: str, **environ: str) -> str:
    scheme, _, rest = url.partition("://")
    host, _, port = rest.rpartition(":")
    return ProxyRules.from_environment(environ).proxy_for(scheme, host, int(port))


def test_by_scheme() -> None:
    """HTTP_PROXY for http, HTTPS_PROXY for https; a proxy without a scheme is an http one."""
    environ = {"HTTP_PROXY": "plain:3128", "https_proxy": "https://secure:3129"}
    assert proxy_for("http://hub.example:80", **environ) == "http://plain:3128"
    assert proxy_for("https://hub.example:443", **environ) == "https://secure:3129"
    assert proxy_for("https://hub.example:443", HTTP_PROXY="plain:3128") == ""


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.1.2.3", "[::1]"])
def test_loopback_is_asked_directly(host: str) -> None:
    """Whatever NO_PROXY says."""
    assert proxy_for(f"http://{host}:5000", HTTP_PROXY="p:1") == ""


@pytest.mark.parametrize(
    ("entry", "host", "direct"),
    [
        ("*", "hub.example", True),
        ("10.0.0.0/8", "10.1.2.3", True),
        ("10.0.0.0/8", "11.1.2.3", False),
        ("10.0.0.0/8", "hub.example", False),
        ("fd00::/8", "[fd00::5]", True),
        ("10.1.2.3", "10.1.2.3", True),
        ("10.1.2.3:5000", "10.1.2.3", True),
        ("10.1.2.3:5001", "10.1.2.3", False),
        ("fd00::5", "[fd00::5]", True),
        ("[fd00::5]:5000", "[fd00::5]", True),
        ("hub.example", "hub.example", True),
        ("hub.example", "a.hub.example", True),
        ("hub.example", "myhub.example", False),
        (".example", "hub.example", True),
        (".hub.example", "hub.example", False),
        ("*.example", "hub.example", True),
        ("HUB.example", "hub.EXAMPLE", True),
        ("hub.example:5000", "hub.example", True),
        ("hub.example:5001", "hub.example", False),
        ("not/a/network", "10.1.2.3", False),
        (" other.example , hub.example ,", "hub.example", True),
    ],
)
def test_exceptions(entry: str, host: str, direct: bool) -> None:
    """NO_PROXY: addresses, networks, names and their subdomains, ports."""
    proxy = proxy_for(f"http://{host}:5000", HTTP_PROXY="p:1", NO_PROXY=entry)
    assert (proxy == "") is direct
