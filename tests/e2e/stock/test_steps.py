"""The steps of the README and of docs/install.md, typed as they are written, end with a pod."""

from __future__ import annotations

import pytest

from tests.e2e.stock.conftest import assert_pods_start_without_the_shim, differing, state
from tests.e2e.support.steps import Step, steps
from tests.e2e.support.stock_node import CONTAINERD, StockNode

pytestmark = pytest.mark.e2e

APP = "harbor.example.com/team/app:1"


def type_all(node: StockNode, typed: list[Step]) -> None:
    """Each step in its order; every command of theirs succeeds."""
    for step in typed:
        step.carry_out(node)


def named(node: StockNode) -> str:
    """The names of all images on the node, as its runtime shows them."""
    return node.crictl("images", endpoint=CONTAINERD).stdout


def test_from_the_readme_to_a_running_pod_and_back(node: StockNode, readme: list[Step]) -> None:
    """A pod of the hub's image; another registry's beside it; both outlive the way back."""
    file, ask, install, look = readme
    file.carry_out(node)
    before = state(node)
    dry_run, now = install.commands
    ask.carry_out(node)
    node.sh(dry_run)
    assert differing(state(node), before) == set(), "nothing on the node has changed yet"
    node.sh(now)
    installed = state(node)
    assert "installed already" in node.sh(now).stdout
    assert differing(state(node), installed) == set()
    look.carry_out(node)
    first = node.start_pod("first", "nginx:latest")
    assert "sealos.hub" not in named(node)

    type_all(node, steps("docs/install.md", "Another registry"))
    node.sh(f"crictl pull {APP}")
    second = node.start_pod("second", APP)
    assert node.running() == {first, second}

    file.carry_out(node)  # without the other registry, as it was
    node.sh("image-cri-shim uninstall-service")
    assert node.running(CONTAINERD) == {first, second}
    node.clear()
    assert differing(state(node), before) == set()


def test_containerd_by_hand(node: StockNode) -> None:
    """With the files of the document the runtime itself pulls from both registries."""
    try:
        type_all(node, steps_for(node))
        node.wait_for_runtime()
        for image in ("sealos.hub:5000/library/nginx:latest", APP):
            login = ["--creds", "admin:passw0rd"] if "sealos" in image else []
            done = node.crictl("pull", *login, image, endpoint=CONTAINERD)
            assert done.returncode == 0, done.stderr
    finally:
        node.sh("rm -r /etc/containerd/certs.d")
        node.restore_containerd()


def steps_for(node: StockNode) -> list[Step]:
    """The document's steps, without the configuration of the other version of containerd."""
    return [
        step
        for step in steps("docs/install.md", "containerd by hand")
        if "config.toml" not in step.said or ("version = 3" in step.text) == (not node.has_config)
    ]


def test_pods_start_while_the_shim_cannot(node: StockNode, readme: list[Step]) -> None:
    """Its interpreter is deleted: images that are there start past it, then through it."""
    type_all(node, readme)
    assert_pods_start_without_the_shim(node)
