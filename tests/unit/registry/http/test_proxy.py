"""Which proxy: Go's rules."""

from __future__ import annotations

import pytest

from shimcore.registry.http.proxy import Proxy, ProxyRules, read_proxy


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


@pytest.mark.parametrize(
    "host", ["localhost", "127.0.0.1", "127.1.2.3", "[::1]", "[::ffff:127.0.0.1]"]
)
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
        ("10.0.0.0/255.0.0.0", "10.1.2.3", False),
        ("fd00::/8", "[fd00::5]", True),
        ("10.1.2.3", "10.1.2.3", True),
        ("10.1.2.3:5000", "10.1.2.3", True),
        ("10.1.2.3:5001", "10.1.2.3", False),
        ("fd00::5", "[fd00::5]", True),
        ("[fd00::5]:5000", "[fd00::5]", True),
        ("[fd00::5]:5001", "[fd00::5]", False),
        ("[fd00::5]", "[fd00::5]", False),
        ("10.1.2.3", "[::ffff:10.1.2.3]", True),
        ("10.0.0.0/8", "[::ffff:10.1.2.3]", True),
        ("::ffff:10.1.2.3", "10.1.2.3", True),
        ("2.3", "10.1.2.3", False),
        ("*hub.example", "hub.example", False),
        ("*hub.example", "a.hub.example", False),
        ("*.hub.example", "hub.example", False),
        ("bücher.example", "xn--bcher-kva.example", True),
        ("*.BÜCHER.example:5000", "a.xn--bcher-kva.example", True),
        (".bücher.example", "xn--bcher-kva.example", False),
        ("bü cher.example", "xn--bcher-kva.example", False),
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


SECRETS = ["S3cr3t", "us3r", "r3st", "31337"]


@pytest.mark.parametrize(
    "text",
    [
        "http://us3r:S3cr3t/r3st@proxy:3128",
        "http://us3r:S3cr3t?r3st@proxy:3128",
        "http://us3r:S3cr3t#r3st@proxy:3128",
        "http://us3r:S3cr3t\\r3st@proxy:3128 ",
        "http://us3r:31337/S3cr3t@proxy:3128",
        "http://us3r:S3cr3t",
        "http://us3r:S3cr3t@",
        "http://us3r:S3cr3t@r3st:port",
        "http://us3r:S3cr3t@proxy:99999",
        "http://us3r:S3cr3t@proxy:0",
        "http://us3r:S3cr3t@[::1:3128",
        "http://us3r:S3cr3t@xn--\x80:3128",
        "socks5://us3r:S3cr3t@proxy:1080",
        "us3r:S3cr3t@proxy://r3st",
        "http://us3r:S3cr3t r3st@pro xy:3128",
        "http:/us3r:S3cr3t@proxy:3128",
    ],
)
def test_no_part_of_a_proxys_url_comes_back(text: str) -> None:
    """What cannot be used may be a password in the wrong place, whatever part it looks like."""
    with pytest.raises(ValueError, match=r"\w") as raised:
        read_proxy(text)
    said = f"{raised.value} {raised.value!r} {raised.value.__context__} {raised.value.__cause__}"
    assert not [secret for secret in SECRETS if secret in said]


def test_a_proxys_login_is_decoded_and_kept_out_of_texts() -> None:
    """Percent-encoded bytes, as Go decodes them; neither repr nor str shows any of it."""
    proxy = read_proxy("HTTP://us3r%40x:S3cr3t%2Fr3st%zz@Proxy.Example:3128/ignored?x")
    assert proxy == Proxy("http", "proxy.example", 3128, (b"us3r@x", b"S3cr3t/r3st%zz"))
    rules = ProxyRules.from_environment({"HTTPS_PROXY": "http://us3r:S3cr3t@proxy", "NO_PROXY": ""})
    said = f"{proxy} {proxy!r} {rules} {rules!r}"
    assert not [secret for secret in SECRETS if secret in said]


@pytest.mark.parametrize(
    ("text", "proxy"),
    [
        ("http://proxy", Proxy("http", "proxy", 80, None)),
        ("https://proxy/", Proxy("https", "proxy", 443, None)),
        ("http://proxy:", Proxy("http", "proxy", 80, None)),
        ("http://10.0.0.1:3128", Proxy("http", "10.0.0.1", 3128, None)),
        ("http://[fd00::1]:3128", Proxy("http", "[fd00::1]", 3128, None)),
        ("http://u@p@proxy:3128", Proxy("http", "proxy", 3128, (b"u@p", b""))),
        ("http://u:@proxy:3128", Proxy("http", "proxy", 3128, (b"u", b""))),
        ("http://:p@proxy:3128", Proxy("http", "proxy", 3128, (b"", b"p"))),
    ],
)
def test_proxies_that_can_be_used(text: str, proxy: Proxy) -> None:
    """With the scheme's own port where none is given."""
    assert read_proxy(text) == proxy
