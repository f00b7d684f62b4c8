"""`resolve` as operators and scripts run it."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
import yaml

from shimcore.demo.registry_images import digest_of
from tests.integration.cli_support import AUTH, USERS, run, run_on_terminal, write_config
from tests.support.registry_images import Manifest
from tests.support.scripted_registry import ScriptedRegistry
from tests.support.scripted_runtime import ScriptedRuntime
from tests.support.standin_images import PulledImage

KEYS = [
    "image",
    "canonical",
    "resolved",
    "rewritten",
    "registry",
    "digest",
    "elapsed_ms",
    "candidates",
]
CANDIDATE_KEYS = [
    "registry",
    "reference",
    "priority",
    "outcome",
    "digest",
    "elapsed_ms",
    "detail",
]
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
LONG = "team/a-very-long-project-name/component/with/a/deep/path/service:v1.2.3-rc.1.build.20240501"


@pytest_asyncio.fixture
async def hub() -> AsyncIterator[ScriptedRegistry]:
    """A registry that wants a password."""
    async with ScriptedRegistry(users=USERS, auth="basic") as registry:
        yield registry


@pytest.fixture
def config(hub: ScriptedRegistry, tmp_path: Path) -> str:
    return write_config(tmp_path, address=hub.address, auth=AUTH)


async def test_found(hub: ScriptedRegistry, config: str) -> None:
    """A registry has it: status 0, JSON with the fixed keys in their order."""
    digest = hub.add_image("library/nginx", "latest")
    ran = await run("resolve", "nginx", "-f", config, "-o", "json")
    [answer] = json.loads(ran.out)
    assert ran.status == 0
    assert list(answer) == KEYS
    assert answer["image"] == "nginx"
    assert answer["canonical"] == "docker.io/library/nginx:latest"
    assert answer["resolved"] == f"{hub.host}/library/nginx:latest"
    assert (answer["rewritten"], answer["registry"]) == (True, hub.host)
    assert answer["digest"] == digest
    [candidate] = answer["candidates"]
    assert list(candidate) == CANDIDATE_KEYS
    assert (candidate["outcome"], candidate["priority"]) == ("found", 1000)


async def test_yaml_is_the_same(hub: ScriptedRegistry, config: str) -> None:
    """YAML has what JSON has."""
    hub.add_image("library/nginx", "latest")
    ran = await run("-f", config, "resolve", "nginx", "-o", "yaml")
    [answer] = yaml.safe_load(ran.out)
    assert list(answer) == KEYS
    assert list(answer["candidates"][0]) == CANDIDATE_KEYS


async def test_pipe(hub: ScriptedRegistry, config: str) -> None:
    """In a pipe there is one line for each candidate; a warning about mapping is beside it."""
    digest = hub.add_image("org/app", "latest")
    ran = await run("-f", config, "resolve", "quay.io/org/app")
    line = ran.out.splitlines()[-1]
    assert line.split()[:3] == [hub.host, "found", "1000"]
    assert f"{hub.host}/org/app:latest" in line
    assert digest in line
    [warning] = ran.error_lines
    assert warning.startswith(f"image-cri-shim: warning: {hub.host} keeps no domains apart")


@pytest.mark.parametrize("columns", [80, 200])
async def test_terminal(hub: ScriptedRegistry, config: str, columns: int) -> None:
    """On a terminal a long name is never broken, at any width."""
    name, _, tag = LONG.partition(":")
    hub.add_image(name, tag)
    ran = await run_on_terminal(columns, "-f", config, "resolve", LONG)
    assert ran.status == 0
    assert "\x1b[32mfound" in ran.out
    assert ran.plain.count(f"{hub.host}/{LONG}") == 2
    assert "asking 1 registry" in ran.plain


async def test_on_the_node_and_for_which_platforms(hub: ScriptedRegistry, tmp_path: Path) -> None:
    """For people: what the runtime and the index say; the JSON has its fixed keys."""
    digest = hub.add_image("library/nginx", "latest")
    platforms = [{"os": "linux", "architecture": "amd64"}, {"os": "linux", "architecture": "arm64"}]
    entries = [{"digest": digest, "platform": each} for each in platforms]
    index = Manifest(json.dumps({"manifests": entries}).encode(), OCI_INDEX)
    hub.images.manifests["library/nginx", digest_of(index.content)] = index
    hub.images.tags["library/nginx", "latest"] = digest_of(index.content)
    socket = tmp_path / "runtime.sock"
    config = write_config(tmp_path, address=hub.address, auth=AUTH, cri=str(socket))
    async with ScriptedRuntime(str(socket)) as runtime:
        ran = await run("-f", config, "resolve", "nginx")
        assert re.search(r"^  platforms +linux/amd64, linux/arm64$", ran.out, re.MULTILINE)
        assert re.search(r"^  on the node +not yet$", ran.out, re.MULTILINE)
        runtime.table.add(
            "docker.io/library/nginx:latest", PulledImage("sha256:" + "b" * 64, digest, 1)
        )
        ran = await run("-f", config, "resolve", "nginx")
        assert re.search(r"^  on the node +already: sha256:", ran.out, re.MULTILINE)
        ran = await run("-f", config, "resolve", "nginx", "-o", "json")
        assert list(json.loads(ran.out)[0]) == KEYS
    ran = await run("-f", config, "resolve", "nginx")
    assert ran.status == 0
    assert "on the node" not in ran.out


async def test_absent(config: str) -> None:
    """No registry has it: status 3, and the name under which it would be pulled."""
    ran = await run("-f", config, "resolve", "redis:7")
    assert ran.status == 3
    assert "its own name: no registry has it" in ran.out
    assert "docker.io/library/redis:7" in ran.out


async def test_denied(hub: ScriptedRegistry, tmp_path: Path) -> None:
    """With `fallback: deny` nothing would be pulled."""
    config = write_config(tmp_path, address=hub.address, auth=AUTH, fallback="deny")
    ran = await run("-f", config, "resolve", "redis:7")
    assert ran.status == 3
    assert "nothing: no registry has it, and `fallback: deny`" in ran.out


async def test_wrong_password(hub: ScriptedRegistry, tmp_path: Path) -> None:
    """A refused login is no absence: status 1."""
    config = write_config(tmp_path, address=hub.address, auth="admin:another")
    ran = await run("-f", config, "resolve", "nginx")
    assert ran.status == 1
    assert "unauthorized" in ran.out
    assert "the login was refused" in ran.out
    assert "another" not in ran.out + ran.err.replace("name another", "")


async def test_hub_down(hub: ScriptedRegistry, config: str) -> None:
    """A hub that is down is no absence: status 1, and what to look at."""
    await hub.stop()
    ran = await run("-f", config, "resolve", "nginx")
    assert ran.status == 1
    assert "refused the connection; is the registry running on that port?" in ran.out


async def test_worst_counts(hub: ScriptedRegistry, config: str) -> None:
    """Of several images the worst counts: a bad name over an absent image over a found one."""
    hub.add_image("library/nginx", "latest")
    ran = await run("-f", config, "resolve", "nginx", "redis:7", "-o", "json")
    assert ran.status == 3
    assert [each["image"] for each in json.loads(ran.out)] == ["nginx", "redis:7"]
    ran = await run("-f", config, "resolve", "nginx", "Bad/Name", "redis:7", "-o", "json")
    assert ran.status == 1
    assert len(json.loads(ran.out)) == 2
    assert "image-cri-shim: invalid image name 'Bad/Name': " in ran.error_lines[0]


async def test_bad_name_alone(config: str) -> None:
    """A name that is none: one line, status 1, nothing on standard output."""
    ran = await run("-f", config, "resolve", "nginx:")
    assert (ran.status, ran.out) == (1, "")
    assert len(ran.error_lines) == 1


async def test_a_url_is_not_a_name(hub: ScriptedRegistry, config: str) -> None:
    """What is given for a name by mistake is said how to write, and the others are resolved."""
    hub.add_image("library/nginx", "latest")
    ran = await run("-f", config, "resolve", "http://x/y", "nginx", "-o", "json")
    assert ran.status == 1
    assert ran.error_lines == [
        "image-cri-shim: an image name has no scheme: x/y for http://x/y",
    ]
    assert len(json.loads(ran.out)) == 1


async def test_offline(hub: ScriptedRegistry, config: str) -> None:
    """Offline no registry is asked, and the first name that would be is shown."""
    ran = await run("-f", config, "resolve", "--offline", "nginx", "-o", "json")
    [answer] = json.loads(ran.out)
    assert ran.status == 0
    assert answer["resolved"] == f"{hub.host}/library/nginx:latest"
    assert [each["outcome"] for each in answer["candidates"]] == ["skipped"]
    assert hub.requests == []


async def test_excluded(hub: ScriptedRegistry, tmp_path: Path) -> None:
    """An excluded image is asked about nowhere: status 3, with and without `--offline`."""
    config = write_config(tmp_path, address=hub.address, exclude=["quay.io/*"])
    for more in ([], ["--offline"]):
        ran = await run("-f", config, "resolve", "quay.io/a/b", *more)
        assert ran.status == 3
        assert "no registry is asked for it" in ran.out
        assert "excluded by the pattern quay.io/*" in ran.out
    assert hub.requests == []


async def test_image_id(config: str) -> None:
    """An image ID is never rewritten."""
    ran = await run("-f", config, "resolve", "sha256:" + "a" * 64)
    assert ran.status == 3
    assert "an image ID is never rewritten" in ran.out
