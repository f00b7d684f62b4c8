"""The stand-in's names are made as containerd makes them."""

from __future__ import annotations

import pytest

from shimcore.pb import cri_pb2
from shimcore.pb.containerd_pb2 import Descriptor
from shimcore.runtime.errors import StatusCode
from shimcore.runtime.values import ImageRecord
from tests.support.registry_puller import login_for
from tests.support.scripted_runtime import pull_out_of_thin_air
from tests.support.standin_images import PulledImage, ScriptedTable
from tests.support.standin_rpc import StatusError

ID = "sha256:" + "1" * 64
DIGEST = "sha256:" + "2" * 64
NGINX = PulledImage(ID, DIGEST, size=100)


@pytest.fixture
def table() -> ScriptedTable:
    table = ScriptedTable()
    table.add("nginx", NGINX)
    return table


def test_a_pull_leaves_three_names(table: ScriptedTable) -> None:
    """Tag, digest and ID, all marked as the CRI plugin's own."""
    assert set(table.records) == {
        "docker.io/library/nginx:latest",
        f"docker.io/library/nginx@{DIGEST}",
        ID,
    }
    assert {record.labels["io.cri-containerd.image"] for record in table.records.values()} == {
        "managed"
    }


@pytest.mark.parametrize(
    "name",
    [
        "nginx",
        "nginx:latest",
        "docker.io/nginx",
        "docker.io/library/nginx:latest",
        f"nginx@{DIGEST}",
        f"nginx:1.25@{DIGEST}",
        ID,
        "1" * 64,
        "1" * 13,
    ],
)
def test_every_way_to_name_it_leads_to_it(table: ScriptedTable, name: str) -> None:
    """Familiar and canonical names, digests and IDs find the same image."""
    found = table.find(name)
    assert found is not None
    assert found.id == ID
    assert found.repo_tags == ["docker.io/library/nginx:latest"]
    assert found.repo_digests == [f"docker.io/library/nginx@{DIGEST}"]


@pytest.mark.parametrize("name", ["nginx:1.25", "redis", "quay.io/library/nginx", "2" * 64])
def test_another_name_does_not(table: ScriptedTable, name: str) -> None:
    """A name that was not given leads nowhere."""
    assert table.find(name) is None


def test_a_name_added_to_the_store_is_the_image_s(table: ScriptedTable) -> None:
    """CRI sees a name that the image store was given."""
    target = Descriptor(media_type="", digest=DIGEST, size=100)
    name = "sealos.hub:5000/library/nginx:latest"
    table.records[name] = ImageRecord(name, {}, target)
    found = table.find(name)
    assert found is not None
    assert found.repo_tags == ["docker.io/library/nginx:latest", name]


def test_removing_one_name_removes_them_all(table: ScriptedTable) -> None:
    """As with containerd, the image goes, not the name."""
    table.add("quay.io/other/nginx:1", NGINX)
    table.remove("nginx")
    assert table.records == {}
    assert table.images() == []
    table.remove("nginx")


def test_what_is_no_image_name_is_refused(table: ScriptedTable) -> None:
    """A name outside the grammar is INVALID_ARGUMENT."""
    with pytest.raises(StatusError) as caught:
        table.find("NGINX")
    assert caught.value.code is StatusCode.INVALID_ARGUMENT


async def test_made_up_images_are_the_same_on_every_registry() -> None:
    """So that a test can pull from the hub what the original would have given."""
    assert await pull_out_of_thin_air("nginx") == await pull_out_of_thin_air(
        "hub:5000/nginx:latest"
    )
    assert await pull_out_of_thin_air("nginx") != await pull_out_of_thin_air("nginx:1.25")
    assert (await pull_out_of_thin_air(f"nginx@{DIGEST}")).digest == DIGEST


@pytest.mark.parametrize(
    ("server_address", "kept"),
    [
        ("", True),
        ("http://sealos.hub:5000", True),
        ("https://sealos.hub:5000/v2/", True),
        ("sealos.hub:5000", False),
        ("http://sealos.hub", False),
        ("https://index.docker.io/v1/", False),
    ],
)
def test_credentials_for_another_host_are_dropped(server_address: str, kept: bool) -> None:
    """Like containerd: without a word, also when the server address is no URL."""
    auth = cri_pb2.AuthConfig(username="u", password="p", server_address=server_address)
    login = login_for("sealos.hub:5000", auth)
    assert (login is not None) is kept
    assert "p" not in repr(login).replace("Login(…)", "")


def test_credentials_come_in_three_forms() -> None:
    """Name and password, an identity token, or both in base64."""
    encoded = cri_pb2.AuthConfig(auth="dTpwOnE=")
    login = login_for("h", encoded)
    assert login is not None
    assert (login.username, login.secret) == ("u", "p:q")
    token = login_for("h", cri_pb2.AuthConfig(identity_token="t"))
    assert token is not None
    assert (token.username, token.secret) == ("", "t")
    assert login_for("h", cri_pb2.AuthConfig()) is None
    assert login_for("h", None) is None
