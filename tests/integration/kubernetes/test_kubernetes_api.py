"""The follower against a server on a socket: lists, watches, and all that goes wrong there."""

from __future__ import annotations

import asyncio
import logging
from base64 import b64encode
from pathlib import Path

import pytest

from shimcore.cluster import api as kubernetes_api
from shimcore.cluster import server as cluster_server
from shimcore.cluster.api import Api
from shimcore.cluster.documents import ClusterPart, Document, Kind
from shimcore.cluster.errors import ApiUnreachableError, GoneError, RefusedError
from shimcore.cluster.watch import Condition
from shimcore.config.model import KubernetesSource
from shimcore.errors import ConfigError
from tests.integration.kubernetes.following import PASSWORD, followed
from tests.support.apiserver import StandInApi, standing_in

DOCUMENT = f"sealos: {{auth: {{username: a, password: {PASSWORD}}}}}"


async def test_change_delete_and_change_again(server: StandInApi, source: KubernetesSource) -> None:
    """Both objects are followed; another object of the namespace is none of ours."""
    async with followed(source) as one:
        await one.until(lambda: one.condition is Condition.WATCHING)
        server.put("Secret", DOCUMENT)
        server.put("ConfigMap", "timeout: 5m")
        server.put("ConfigMap", "timeout: 6m", "another")
        await one.until(lambda: one.text(Kind.CONFIG_MAP) == "timeout: 5m")
        await one.until(lambda: one.text(Kind.SECRET) == DOCUMENT)
        server.delete("Secret")
        await one.until(lambda: one.text(Kind.SECRET) == "")
        server.put("Secret", "debug: true")
        await one.until(lambda: one.text(Kind.SECRET) == "debug: true")
        assert [asked.verb for asked in server.asked].count("list") == 2


async def test_only_the_two_objects_are_asked_for(
    server: StandInApi, source: KubernetesSource
) -> None:
    """Every request names the object, as RBAC's resourceNames wants it; lists come from the
    cache; watches go on from the list's version."""
    server.put("ConfigMap", "a: 1")
    async with followed(source) as one:
        await one.until(lambda: one.condition is Condition.WATCHING)
    assert sorted((asked.verb, asked.kind, asked.version) for asked in server.asked) == [
        ("list", "ConfigMap", "0"),
        ("list", "Secret", "0"),
        ("watch", "ConfigMap", "101"),
        ("watch", "Secret", "101"),
    ]
    assert {asked.answered for asked in server.asked} == {200}


async def test_a_server_that_ignores_the_selector(
    server: StandInApi, source: KubernetesSource
) -> None:
    """Other objects that come all the same are left alone."""
    server.trouble.ignore_selector = True
    server.put("Secret", "of: another", "another")
    async with followed(source) as one:
        await one.until(lambda: bool(one.told))
        server.put("Secret", "of: another 2", "another")
        server.put("ConfigMap", "mine: 1")
        await one.until(lambda: one.text(Kind.CONFIG_MAP) == "mine: 1")
        assert one.text(Kind.SECRET) == ""


async def test_a_document_that_is_not_utf_8(server: StandInApi, source: KubernetesSource) -> None:
    """kubectl puts it in binaryData: it is a fault, as in a Secret, and not an absent document."""
    server.put("ConfigMap", "fallback: deny")
    raw = b64encode("# gesch\xfctzt\nfallback: deny\n".encode("latin-1")).decode()
    async with followed(source) as one:
        await one.until(lambda: one.text(Kind.CONFIG_MAP) == "fallback: deny")
        server.put_item("ConfigMap", {"binaryData": {"registries.yaml": raw}})
        await one.until(lambda: one.text(Kind.CONFIG_MAP) != "fallback: deny")
        with pytest.raises(ConfigError, match="ConfigMap kube-system/image-cri-shim"):
            one.told[-1].layers()
        server.put_item("ConfigMap", {"binaryData": {"registries.yaml": "ZGVidWc6IHRydWU="}})
        await one.until(lambda: one.text(Kind.CONFIG_MAP) == "debug: true")


async def test_an_object_without_the_key(
    server: StandInApi, source: KubernetesSource, caplog: pytest.LogCaptureFixture
) -> None:
    """It counts as absent, as one without any data does, and that is said once."""
    server.put_data("ConfigMap", {"registries.yml": "debug: true"})
    async with followed(source) as one:
        await one.until(lambda: bool(one.told))
        server.put_data("ConfigMap", {"registries.yml": "debug: false"})
        server.put("Secret", "timeout: 5m")
        await one.until(lambda: one.text(Kind.SECRET) == "timeout: 5m")
        assert one.text(Kind.CONFIG_MAP) == ""
    assert [record.message for record in caplog.records if record.levelname == "WARNING"] == [
        "Kubernetes: ConfigMap kube-system/image-cri-shim: it has no key registries.yaml, but "
        "registries.yml; it counts as absent"
    ]


async def test_bookmarks_move_the_version(tmp_path: Path) -> None:
    """After a cut the watch goes on from the last bookmark, though all before is forgotten."""
    async with standing_in(bookmark_s=0.05) as server:
        source = KubernetesSource(True, str(server.kubeconfig(tmp_path / "kubeconfig")))
        async with followed(source) as one:
            await one.until(lambda: one.condition is Condition.WATCHING)
            server.pass_versions(500)
            await asyncio.sleep(1.0)
            server.forget()
            server.asked.clear()
            server.cut()
            await one.until(lambda: len(server.asked) >= 2)
            await one.until(lambda: one.condition is Condition.WATCHING)
            assert {(asked.verb, asked.version) for asked in server.asked} == {("watch", "600")}


async def test_410_on_the_watch_request(server: StandInApi, source: KubernetesSource) -> None:
    """The version is too old when the watch begins: list again, not from the cache."""
    async with followed(source) as one:
        await one.until(lambda: one.condition is Condition.WATCHING)
        await server.stop()
        server.put("ConfigMap", "a: 2")
        server.forget()
        await server.start()
        await one.until(lambda: one.text(Kind.CONFIG_MAP) == "a: 2")


async def test_410_inside_a_watch(server: StandInApi, source: KubernetesSource) -> None:
    """The same as an event, on a connection that stays."""
    async with followed(source) as one:
        await one.until(lambda: one.condition is Condition.WATCHING)
        server.asked.clear()
        server.pass_versions(10)
        server.forget()
        server.put("ConfigMap", "a: 2")
        await one.until(lambda: one.text(Kind.CONFIG_MAP) == "a: 2")
        assert ("list", "") in {(asked.verb, asked.version) for asked in server.asked}


async def test_a_server_that_lags_behind(server: StandInApi, source: KubernetesSource) -> None:
    """What is older than the kept copy is not taken from its cache; the store has the last word."""
    server.put("ConfigMap", "fallback: allow")
    kept = {Kind.CONFIG_MAP: Document("fallback: deny", "105")}
    async with followed(source, ClusterPart(source, kept)) as one:
        await one.until(lambda: one.text(Kind.CONFIG_MAP) == "fallback: allow")
        assert [text.documents[Kind.CONFIG_MAP].version for text in one.told] == ["101"]
    lists = [asked for asked in server.asked if (asked.verb, asked.kind) == ("list", "ConfigMap")]
    assert [(asked.version, asked.answered) for asked in lists] == [("105", 504), ("", 200)]


@pytest.mark.parametrize(("code", "word"), [(401, "login"), (403, "rbac.yaml")])
async def test_refused_and_then_allowed(
    server: StandInApi,
    source: KubernetesSource,
    caplog: pytest.LogCaptureFixture,
    code: int,
    word: str,
) -> None:
    """Said with what to do about it; picked up when it is mended."""
    server.trouble.codes[""] = code
    server.put("Secret", DOCUMENT)
    async with followed(source) as one:
        await one.until(lambda: one.condition is Condition.REFUSED)
        await one.until(lambda: word in caplog.text and f"({code})" in caplog.text)
        server.trouble.codes.clear()
        await one.until(lambda: one.text(Kind.SECRET) == DOCUMENT)


async def test_a_token_that_is_renewed(server: StandInApi, tmp_path: Path) -> None:
    """The kubeconfig is read anew for each connection."""
    path = tmp_path / "kubeconfig"
    server.kubeconfig(path, token="old-token")
    async with followed(KubernetesSource(True, str(path))) as one:
        await one.until(lambda: one.condition is Condition.REFUSED)
        server.kubeconfig(path)
        await one.until(lambda: one.condition is Condition.WATCHING)


@pytest.mark.parametrize("code", [429, 500, 503])
async def test_a_busy_server(server: StandInApi, source: KubernetesSource, code: int) -> None:
    """It is away, not refusing; asked again later."""
    server.trouble.codes["Secret"] = code
    server.trouble.retry_after = 1
    async with followed(source) as one:
        await one.until(lambda: one.condition is Condition.AWAY)
        assert str(code) in one.follower.status.detail
        server.trouble.codes.clear()
        await one.until(lambda: one.condition is Condition.WATCHING)


async def test_cut_inside_an_event(server: StandInApi, source: KubernetesSource) -> None:
    """Half an event is none; the whole one comes after the next connection."""
    async with followed(source) as one:
        await one.until(lambda: one.condition is Condition.WATCHING)
        server.trouble.cut_inside_event = True
        server.put("Secret", DOCUMENT)
        await one.until(lambda: one.condition is not Condition.WATCHING)
        server.trouble.cut_inside_event = False
        await one.until(lambda: one.text(Kind.SECRET) == DOCUMENT)


async def test_a_server_that_shuts_down_in_order(
    server: StandInApi, source: KubernetesSource, caplog: pytest.LogCaptureFixture
) -> None:
    """Watches that end before their time are no alarm, and are not begun again at once."""
    async with followed(source) as one:
        await one.until(lambda: one.condition is Condition.WATCHING)
        server.end_watches()
        await one.until(lambda: len(server.asked) >= 6)
        await one.until(lambda: one.condition is Condition.WATCHING)
    ours = [record for record in caplog.records if record.name.startswith("shimcore")]
    assert all(record.levelno < logging.WARNING for record in ours)


@pytest.mark.parametrize(
    "garbage",
    [b"<html>", b"[]\n", b"{}\n", b'{"type": 1, "object": []}\n', b"\xff\xfe\n", b"[" * 9999],
)
async def test_garbage(server: StandInApi, source: KubernetesSource, garbage: bytes) -> None:
    """Neither a list nor a watch of rubbish ends the follower, or is taken for an answer."""
    api = Api(source)
    try:
        version = (await api.list(Kind.SECRET, fresh=False)).version
        server.trouble.garbage = garbage
        with pytest.raises(ApiUnreachableError):
            await api.list(Kind.SECRET, fresh=False)
        server.put("Secret", DOCUMENT)
        with pytest.raises(ApiUnreachableError):
            async for _ in api.watch(Kind.SECRET, version, 1):
                pass
    finally:
        await api.aclose()


async def test_an_event_without_end(
    server: StandInApi, source: KubernetesSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is longer than an object can be is not gathered."""
    monkeypatch.setattr(cluster_server, "LIMIT_BYTES", 10_000)
    api = Api(source)
    server.put("ConfigMap", "x" * 20_000)
    try:
        with pytest.raises(ApiUnreachableError, match="too long"):
            await api.list(Kind.CONFIG_MAP, fresh=False)
        server.trouble.garbage = b"x" * 20_000
        with pytest.raises(ApiUnreachableError, match="too long"):
            async for _ in api.watch(Kind.CONFIG_MAP, "100", 5):
                pass
    finally:
        await api.aclose()


async def test_slow_answers(
    server: StandInApi, source: KubernetesSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A list that does not come, and a watch that does not end, have a bound each."""
    monkeypatch.setattr(cluster_server, "ANSWER_S", 0.2)
    monkeypatch.setattr(kubernetes_api, "OVERTIME_S", -0.7)
    api = Api(source)
    try:
        with pytest.raises(ApiUnreachableError, match="not finished"):
            async for _ in api.watch(Kind.SECRET, "100", 1):
                pass
        server.trouble.delay_s = 2
        with pytest.raises(ApiUnreachableError, match=r"in time|not finished"):
            await api.list(Kind.SECRET, fresh=False)
    finally:
        await api.aclose()


async def test_what_each_status_means(server: StandInApi, source: KubernetesSource) -> None:
    """410 is gone, 401 is for both kinds, 403 and other refusals for one."""
    api = Api(source)
    try:
        for code, error, kind_only in ((401, RefusedError, False), (404, RefusedError, True)):
            server.trouble.codes[""] = code
            with pytest.raises(error) as caught:
                await api.list(Kind.SECRET, fresh=True)
            assert caught.value.kind_only is kind_only
        server.trouble.codes[""] = 410
        with pytest.raises(GoneError):
            await api.list(Kind.SECRET, fresh=True)
    finally:
        await api.aclose()
