"""Documents of the cluster, made of what they may and may not say: they only tighten."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fuzz.documents import FIXED_SECRET, PLAIN, STRICT, check

hosts = ["hub.example", "r.example", "quay.io", "docker.io", "evil.test", "localhost", "other"]
addresses = st.builds(
    lambda scheme, host, port: f"{scheme}{host}{port}",
    st.sampled_from(["", "http://", "https://", "HTTPS://"]),
    st.sampled_from(hosts),
    st.sampled_from(["", ":5000", ":443", ":80", "/", ":5000/v2"]),
)
logins = st.sampled_from(["u:p", {"username": "u", "password": "p"}, {"password": "x"}, ""])
patterns = st.lists(st.sampled_from(["*", "docker.io", "*.example", "a.*", "quay.io"]), max_size=3)


def some(keys: dict[str, st.SearchStrategy[Any]]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({}, optional=keys)


entries = some(
    {
        "address": addresses,
        "auth": logins,
        "priority": st.integers(-1, 20_000),
        "path": st.sampled_from(["{path}", "{domain}/{path}", "x"]),
        "domains": patterns,
        "insecureSkipVerify": st.booleans(),
        "caFile": st.just("/etc/shadow"),
        "passwordFile": st.just("/etc/shadow"),
    }
)
durations = st.sampled_from(["1ns", "1ms", "5s", "300h", "9999999h", "0", ""])
documents = some(
    {
        "sealos": some({"address": addresses, "auth": logins}),
        "address": addresses,
        "auth": logins,
        "registries": st.lists(entries, max_size=4),
        "hub": entries,
        "exclude": patterns,
        "fallback": st.sampled_from(["allow", "deny", ""]),
        "names": st.sampled_from(["both", "registry"]),
        "onFailure": st.just("bypass"),
        "stateDir": st.just("/evil"),
        "kubernetes": st.just({"hosts": ["*"]}),
        "cache": some({"imageCacheSize": st.integers(-1, 10**9), "statsLogInterval": durations}),
        **dict.fromkeys(
            ("timeout", "stallTimeout", "reloadInterval", "probeTimeout", "negativeCacheTTL"),
            durations,
        ),
    }
).map(json.dumps)


@settings(max_examples=200)
@given(st.sampled_from([PLAIN, STRICT]), documents, documents | st.just(FIXED_SECRET))
def test_they_only_tighten(file: str, config_map: str, secret: str) -> None:
    """No login, certificate, name or host gets further by them than by the file."""
    check(file, config_map, secret)
