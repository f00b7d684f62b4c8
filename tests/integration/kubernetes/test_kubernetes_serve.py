"""`serve`, `status` and `config show` as processes, with a server that stands in for the API's."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from shimcore.cluster.documents import FILE_NAME
from shimcore.runtime.client import RuntimeClient
from tests.support.apiserver import TOKEN, StandInApi, standing_in
from tests.support.polling import until
from tests.support.scripted_runtime import ScriptedRuntime, pull_out_of_thin_air
from tests.support.serving import ServeProcess, serving

PASSWORD = "pa55-w0rd-zx81"
SECRET = f"""
sealos: {{address: "http://127.0.0.1:9", auth: {{username: admin, password: {PASSWORD}}}}}
registries: [{{address: 127.0.0.1:8, auth: {{username: robot, password: {PASSWORD}-2}}}}]
"""
SECRET_NAME = "Secret kube-system/image-cri-shim"


@pytest.fixture
async def api() -> AsyncIterator[StandInApi]:
    async with standing_in() as started:
        yield started


def _kubernetes(api: StandInApi, tmp_path: Path) -> dict[str, str]:
    return {"kubeconfig": str(api.kubeconfig(tmp_path / "kubeconfig"))}


async def _shown(shim: ServeProcess) -> dict[str, Any]:
    done = await shim.run_command("config", "show", "-o", "json")
    assert done.returncode == 0, done.stderr
    _has_no_secret(done.stdout + done.stderr)
    tree: dict[str, Any] = json.loads(done.stdout)
    return tree


async def _status(shim: ServeProcess) -> tuple[dict[str, Any], str]:
    done = await shim.run_command("status", "-o", "json")
    table = await shim.run_command("status")
    _has_no_secret(done.stdout + done.stderr + table.stdout + table.stderr)
    tree: dict[str, Any] = json.loads(done.stdout)["config"]
    return tree, table.stdout


def _has_no_secret(text: str) -> None:
    assert PASSWORD not in text
    assert TOKEN not in text


def _origins(shown: dict[str, Any]) -> dict[str, tuple[str, str]]:
    return {one["key"]: (one["value"], one["origin"]) for one in shown["values"]}


async def _log(shim: ServeProcess, text: str) -> None:
    await asyncio.to_thread(shim.wait_log, text)


async def test_change_bad_change_and_delete(
    tmp_path: Path, runtime: ScriptedRuntime, api: StandInApi
) -> None:
    """What the cluster says counts, is kept and is shown with its origin; what is bad does not."""
    kubernetes = _kubernetes(api, tmp_path)
    async with serving(
        tmp_path, runtime.socket_path, kubernetes=kubernetes, auth="a:file-pass"
    ) as shim:
        await _log(shim, "watching ConfigMap and Secret kube-system/image-cri-shim")
        api.put("Secret", SECRET)
        api.put("ConfigMap", "timeout: 7m\nregistries: [{address: 127.0.0.1:7, priority: 900}]")
        await _log(shim, f"reloaded from {shim.file} and ")

        shown = await _shown(shim)
        assert shown["running"] is True
        origins = _origins(shown)
        assert origins["auth"] == ("admin:***", SECRET_NAME)
        assert origins["address"] == ("http://127.0.0.1:9", SECRET_NAME)
        assert origins["timeout"] == ("7m", "ConfigMap kube-system/image-cri-shim")
        assert origins["registries[0].priority"] == ("900", "ConfigMap kube-system/image-cri-shim")
        assert origins["registries[1].auth"] == ("robot:***", SECRET_NAME)
        assert origins["names"] == ("original", "default")

        state, table = await _status(shim)
        assert SECRET_NAME in state["sources"]
        assert state["kubernetes"]["state"] == "watching"
        assert SECRET_NAME in table
        kept = tmp_path / "state" / FILE_NAME
        assert kept.stat().st_mode & 0o777 == 0o600
        assert PASSWORD in kept.read_text()
        assert PASSWORD not in shim.file.read_text()

        api.put("ConfigMap", f"timeout: 8m\nsealos: {{address: 'ftp://x', pasword: {PASSWORD}}}")
        await _log(shim, "sealos.address: ")
        state, table = await _status(shim)
        assert "sealos.pasword" in state["kubernetes"]["error"]
        assert "unknown key" in state["kubernetes"]["error"]
        assert _origins(await _shown(shim))["timeout"][0] == "7m"
        assert "8m" not in kept.read_text()

        api.delete("ConfigMap")
        api.delete("Secret")
        await _log(shim, f"configuration reloaded from {shim.file}\n")
        origins = _origins(await _shown(shim))
        assert origins["timeout"] == ("15m", "default")
        assert origins["auth"] == ("a:***", str(shim.file))
        state, _ = await _status(shim)
        assert state["sources"] == [str(shim.file)]
        assert state["kubernetes"]["error"] is None
        assert await asyncio.to_thread(shim.stop) == 0
        _has_no_secret(shim.log)


async def test_the_api_server_is_away_at_the_start(
    tmp_path: Path, runtime: ScriptedRuntime, api: StandInApi
) -> None:
    """A node that boots has what was known last, says so, and serves at once."""
    kubernetes = _kubernetes(api, tmp_path)
    async with serving(tmp_path, runtime.socket_path, kubernetes=kubernetes) as shim:
        await _log(shim, "watching")
        api.put("Secret", SECRET + "timeout: 7m")
        await _log(shim, SECRET_NAME)
        kept = tmp_path / "state" / FILE_NAME
        await until(kept.exists, lambda: f"nothing is kept:\n{shim.log}")
        assert await asyncio.to_thread(shim.stop) == 0

    await api.stop()
    async with serving(tmp_path, runtime.socket_path, kubernetes=kubernetes) as shim:
        origins = _origins(await _shown(shim))
        assert origins["timeout"] == ("7m", SECRET_NAME)
        state, table = await _status(shim)
        assert state["kubernetes"]["kept_at"] is not None
        assert "copy" in table
        assert await asyncio.to_thread(shim.stop) == 0
        _has_no_secret(shim.log)
    done = await shim.run_command("config", "show")
    assert done.returncode == 0
    assert "no shim is running" in done.stderr
    assert SECRET_NAME in done.stdout
    _has_no_secret(done.stdout + done.stderr)
    done = await shim.run_command("resolve", "--offline", "nginx", "-o", "json")
    assert "127.0.0.1:8" in done.stdout
    _has_no_secret(done.stdout + done.stderr)


async def test_a_state_folder_that_cannot_be_written(
    tmp_path: Path, runtime: ScriptedRuntime, api: StandInApi
) -> None:
    """It is a warning; the configuration counts all the same."""
    (tmp_path / "state").write_text("in the way")
    kubernetes = _kubernetes(api, tmp_path)
    async with serving(tmp_path, runtime.socket_path, kubernetes=kubernetes) as shim:
        api.put("ConfigMap", "timeout: 7m")
        await _log(shim, "the cluster's part cannot be kept")
        assert _origins(await _shown(shim))["timeout"][0] == "7m"
        assert "WARNING" in shim.log


async def test_a_login_that_stands_alone(
    tmp_path: Path, runtime: ScriptedRuntime, api: StandInApi
) -> None:
    """The attack: the Secret's login has no address, the ConfigMap names another hub. It is not
    used, and status says so until both stand together."""
    alone = f"sealos: {{auth: {{username: admin, password: {PASSWORD}}}}}"
    api.put("ConfigMap", "sealos: {address: 'http://127.0.0.1:7'}")
    api.put("Secret", alone)
    async with serving(
        tmp_path, runtime.socket_path, kubernetes=_kubernetes(api, tmp_path)
    ) as shim:
        await _log(shim, "sealos.auth has no address beside it and is not used")
        assert "auth" not in _origins(await _shown(shim))
        done = await shim.run_command("status")
        assert done.returncode == 1
        assert f"{SECRET_NAME}: sealos.auth has no address" in " ".join(done.stdout.split())
        api.put("Secret", f"sealos: {{address: 'http://127.0.0.1:7', {alone[9:]}")
        await _log(shim, f"reloaded from {shim.file} and {SECRET_NAME}")
        done = await shim.run_command("status")
        assert "sealos.auth" not in done.stdout + done.stderr
        assert _origins(await _shown(shim))["auth"] == ("admin:***", SECRET_NAME)
        _has_no_secret(shim.log)


async def test_what_the_cluster_cannot_do_to_the_next_boot(
    tmp_path: Path, runtime: ScriptedRuntime, api: StandInApi
) -> None:
    """The attack: `timeout: 1ms` was kept, and the next start waited so long for the runtime."""
    kubernetes = _kubernetes(api, tmp_path)
    text = json.dumps(
        {
            "namespace": "kube-system",
            "name": "image-cri-shim",
            "kept_at": 1,
            "documents": {"ConfigMap": {"text": "timeout: 1ms\nnames: both", "version": "1"}},
        }
    )
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / FILE_NAME).write_text(text)
    await api.stop()
    late = ScriptedRuntime(str(tmp_path / "late.sock"), puller=pull_out_of_thin_air)
    shim = ServeProcess(tmp_path, tmp_path / "late.sock", kubernetes=kubernetes)
    try:
        await asyncio.to_thread(shim.start, wait=False)
        await _log(shim, "waiting for the container runtime")
        await asyncio.sleep(2)
        await late.start()
        await _log(shim, "serving ")
        assert "timeout: 1ms is not between 1s and 8760h" in shim.log
        assert "names: ignored" in shim.log
        assert _origins(await _shown(shim))["timeout"][0] == "1s"
    finally:
        shim.kill()
        await late.stop()


async def test_a_heavy_document_is_read_beside_the_calls(
    tmp_path: Path, runtime: ScriptedRuntime, api: StandInApi
) -> None:
    """Half a megabyte, a second of reading: no call waits for it, before it was 20 s."""
    heavy = "registries:\n" + "".join(
        f"- {{address: r{n}.example, domains: [{', '.join(f'd{m}.example' for m in range(64))}]}}\n"
        for n in range(256)
    )
    heavy += "exclude:\n" + "".join(f"- '*a*{n}*b'\n" for n in range(1024))
    async with serving(
        tmp_path, runtime.socket_path, kubernetes=_kubernetes(api, tmp_path)
    ) as shim:
        await _log(shim, "watching")
        client = RuntimeClient(shim.socket)
        await client.version(10)
        api.put("ConfigMap", heavy)
        times = []
        end = time.monotonic() + 60
        while "and ConfigMap" not in shim.log:
            started = time.monotonic()
            assert started < end, shim.log
            await client.version(10)
            times.append(time.monotonic() - started)
        assert len(times) > 20
        # 0.05 s of 1 on an idle machine.
        assert max(times) < sum(times) / 2, times
        await client.aclose()


async def test_nothing_of_it_without_a_kubeconfig(tmp_path: Path, runtime: ScriptedRuntime) -> None:
    """Not enabled, its packages are not even loaded."""
    env = {"KUBECONFIG": ""}
    shim = ServeProcess(tmp_path, runtime.socket_path)
    try:
        await asyncio.to_thread(shim.start, env=env)
        assert shim.process is not None
        maps = Path(f"/proc/{shim.process.pid}/maps").read_text()
        assert "msgspec" not in maps
        state, _ = await _status(shim)
        assert "kubernetes" not in state
    finally:
        shim.kill()


async def test_kubeconfig_from_the_environment(
    tmp_path: Path, runtime: ScriptedRuntime, api: StandInApi
) -> None:
    """KUBECONFIG switches it on."""
    api.put("ConfigMap", "timeout: 7m")
    shim = ServeProcess(tmp_path, runtime.socket_path)
    try:
        path = str(api.kubeconfig(tmp_path / "kubeconfig"))
        await asyncio.to_thread(shim.start, env={"KUBECONFIG": path})
        await _log(shim, "and ConfigMap kube-system/image-cri-shim")
        assert _origins(await _shown(shim))["kubernetes.enabled"][1].startswith("environment")
    finally:
        shim.kill()


async def test_a_kept_copy_that_is_spoiled(
    tmp_path: Path, runtime: ScriptedRuntime, api: StandInApi
) -> None:
    """It is said and not used; the shim serves."""
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / FILE_NAME).write_text(f'{{"documents": "{PASSWORD}')
    async with serving(
        tmp_path, runtime.socket_path, kubernetes=_kubernetes(api, tmp_path)
    ) as shim:
        assert "not a copy that was kept here" in shim.log
        _has_no_secret(shim.log)


async def test_the_section_changes_while_it_runs(
    tmp_path: Path, runtime: ScriptedRuntime, api: StandInApi
) -> None:
    """Switched off, nothing of the cluster counts any more; switched on again, all of it does."""
    api.put("ConfigMap", "timeout: 7m")
    kubernetes: dict[str, Any] = _kubernetes(api, tmp_path)
    async with serving(
        tmp_path, runtime.socket_path, kubernetes=kubernetes, reloadInterval="200ms"
    ) as shim:
        await _log(shim, "and ConfigMap")
        shim.write_config(kubernetes={**kubernetes, "enabled": False})
        await _log(shim, f"configuration reloaded from {shim.file}\n")
        shown = await _shown(shim)
        assert _origins(shown)["timeout"][0] == "15m"
        assert shown["kubernetes"] is None
        shim.write_config(kubernetes=kubernetes)
        end = time.monotonic() + 60
        while _origins(await _shown(shim))["timeout"][0] != "7m":
            assert time.monotonic() < end, shim.log
            await asyncio.sleep(0.2)
