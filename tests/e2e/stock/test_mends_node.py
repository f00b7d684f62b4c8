"""Faults of a wired node, one at a time: its mend is followed to the letter; doctor is quiet."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping

import pytest

from tests.e2e.support import images, stock_node
from tests.e2e.support.containerd import NEWEST
from tests.e2e.support.kubeadm_layout import FILES
from tests.e2e.support.network import Link
from tests.e2e.support.process import wait_for
from tests.e2e.support.registry import Registry
from tests.e2e.support.stock_node import CONTAINERD, StockNode
from tests.support.mending import Reader

pytestmark = pytest.mark.e2e

RELEASE = NEWEST
CONFIG = "/etc/image-cri-shim.yaml"
SERVICE = "image-cri-shim.service"
SOCKET = "/run/image-cri-shim.sock"
UNIT = f"/etc/systemd/system/{SERVICE}"
CONTAINERD_CONFIG = "/etc/containerd/config.toml"
FLAGS = "/var/lib/kubelet/kubeadm-flags.env"
DROP_IN = "/usr/lib/systemd/system/kubelet.service.d/99-somebody.conf"
CRICTL = "/etc/crictl.yaml"
HOSTS = "/etc/hosts"
REGISTRY = "registry http://sealos.hub:5000"
DEAD_PROXY = "http://127.0.0.1:9"
LISTENER = f"""\
import os, socket, time
os.unlink("{SOCKET}")
there = socket.socket(socket.AF_UNIX)
there.bind("{SOCKET}")
there.listen()
time.sleep(3600)
"""


def amiss(found: list[dict[str, str]]) -> dict[str, dict[str, str]]:
    """What does not hold, by the names of the checks."""
    return {each["check"]: each for each in found if each["result"] != "PASS"}


def mended(
    node: StockNode,
    check: str,
    *,
    pull: str = "",
    knows: Mapping[str, str] | None = None,
    by_hand: Mapping[str, Callable[[], object]] | None = None,
) -> None:
    """The mend of this check is followed; nothing is amiss then, or a moment later."""
    finding = amiss(node.doctor(pull))[check]
    Reader(node.sh, node.place, knows or {}, by_hand or {}).follow(finding)
    left: dict[str, dict[str, str]] = {}

    def quiet() -> bool:
        left.clear()
        left.update(amiss(node.doctor(pull)))
        return not left

    wait_for(f"quiet: {left}", quiet, 120)


@contextlib.contextmanager
def instead(node: StockNode, path: str, text: str, typed: str = "true") -> Iterator[None]:
    """A file has this text, and what is typed after a change is; both again when it is over."""
    place = node.place(path)
    before = place.read_text() if place.exists() else None
    mode = place.stat().st_mode & 0o777 if before is not None else 0o644
    node.add(path, text, mode)
    try:
        node.sh(typed)
        yield
    finally:
        if before is None:
            place.unlink()
        else:
            node.add(path, before, mode)
        node.sh(typed)


def text_of(node: StockNode, path: str, old: str, new: str) -> str:
    """A file's text with a change."""
    text = node.place(path).read_text()
    assert old in text
    return text.replace(old, new)


def test_kubelet_rewired(wired: StockNode) -> None:
    """kubeadm has written its flags anew."""
    text = f'KUBELET_KUBEADM_ARGS="--container-runtime-endpoint={CONTAINERD}"\n'
    with instead(wired, FLAGS, text, "systemctl restart kubelet"):
        mended(wired, "kubelet")


def test_kubelets_drop_in_wins(wired: StockNode) -> None:
    """Somebody's comes after all others and has the flag."""
    flag = f"--container-runtime-endpoint={CONTAINERD}"
    text = f"[Service]\nExecStart=\nExecStart=/usr/local/bin/kubelet {flag}\n"
    with instead(wired, DROP_IN, text, "systemctl daemon-reload && systemctl restart kubelet"):
        mended(wired, "kubelet")


def test_crictl_elsewhere(wired: StockNode) -> None:
    """It goes past the shim, as before."""
    with instead(wired, CRICTL, FILES[CRICTL]):
        mended(wired, "crictl")


def test_stopped(wired: StockNode) -> None:
    """The socket, and with it the service."""
    wired.systemctl("stop", "image-cri-shim.socket")
    mended(wired, "units")


def test_socket_missing(wired: StockNode) -> None:
    """Its path is gone, and the service runs on."""
    wired.place(SOCKET).unlink()
    mended(wired, "socket")


def test_another_process_at_the_socket(wired: StockNode) -> None:
    """It is ended, and the socket made anew."""
    wired.add("/root/listener.py", LISTENER)
    before = wired.place(SOCKET).stat().st_ino
    wired.sh("systemd-run --quiet --unit=somebody python3 /root/listener.py")

    def taken() -> bool:
        place = wired.place(SOCKET)
        return place.exists() and place.stat().st_ino != before

    wait_for("its socket", taken, 20)
    mended(wired, "socket")
    wired.place("/root/listener.py").unlink()


def test_command_gone(wired: StockNode) -> None:
    """The unit starts what is not there."""
    text = text_of(wired, UNIT, "ExecStart=/", "ExecStart=/gone/")
    with instead(wired, UNIT, text, "systemctl daemon-reload"):
        mended(wired, "units")


def test_runtime_down(wired: StockNode) -> None:
    """It is started."""
    wired.systemctl("stop", "containerd.service")
    mended(wired, "runtime")


def test_runtime_elsewhere(wired: StockNode) -> None:
    """The socket that there is is written."""
    text = wired.place(CONFIG).read_text() + "cri: /run/nowhere/containerd.sock\n"
    with instead(wired, CONFIG, text, f"systemctl restart --no-block {SERVICE}"):
        wait_for("the new one", lambda: "waiting" in wired.journal("--lines=3"), 20)
        mended(wired, "runtime")


def test_runtime_without_cri(wired: StockNode) -> None:
    """As the package of Docker has it, in the words of this release."""
    text = (
        'disabled_plugins = ["io.containerd.grpc.v1.cri"]\n'
        + wired.place(CONTAINERD_CONFIG).read_text()
    )
    with instead(wired, CONTAINERD_CONFIG, text, "systemctl restart containerd"):
        mended(wired, "runtime")


def test_foreign_file(wired: StockNode) -> None:
    """The service, which has none of root's powers, cannot read it."""
    wired.sh(f"chown nobody {CONFIG}")
    mended(wired, "file modes")


def test_unknown_name(wired: StockNode, link: Link) -> None:
    """The name is written with its address."""
    with instead(wired, HOSTS, text_of(wired, HOSTS, stock_node.HUB, "")):
        mended(wired, REGISTRY, knows={"ADDRESS": link.ip})


def status(node: StockNode) -> str:
    """What `status` says, which asks the registries that nobody has asked yet."""
    return node.sh("image-cri-shim status", check=False).stdout


def test_a_proxy_of_the_service(wired: StockNode) -> None:
    """The registry is left out of it."""
    restart = f"systemctl daemon-reload && systemctl restart {SERVICE}"
    text = f"[Service]\nEnvironment=HTTP_PROXY={DEAD_PROXY} NO_PROXY=10.0.0.0/30\n"
    with instead(wired, f"{UNIT}.d/10-proxy.conf", text, restart):
        try:
            wait_for("the shim's news", lambda: "down since" in status(wired), 60)
            mended(wired, REGISTRY)
        finally:
            wired.sh(f"rm -f {UNIT}.d/no-proxy.conf")
    wired.sh(f"rmdir {UNIT}.d")


def test_a_proxy_of_the_shell(wired: StockNode) -> None:
    """What is typed there leaves the registry out of it."""
    proxy = f"export HTTP_PROXY={DEAD_PROXY}; "
    finding = amiss(wired.doctor(before=proxy))[REGISTRY]
    typed: list[str] = []
    Reader(typed.append, wired.place).follow(finding)
    assert amiss(wired.doctor(before=f"{proxy}{typed[0]}; ")) == {}


def test_blob_missing(wired: StockNode, stocked_hub: Registry) -> None:
    """The image is pushed anew."""
    lost = images.busybox("lost")
    stocked_hub.push(lost, "library/lost", "1")
    stocked_hub.lose_blob(lost.layers[1].digest)
    anew = {"push the image anew": lambda: stocked_hub.push(lost, "library/lost", "1")}
    mended(wired, "pull lost:1", pull="lost:1", by_hand=anew)


def test_wrong_platform(wired: StockNode, stocked_hub: Registry) -> None:
    """The image for this node's is put there."""
    right = images.small("platform")
    with stocked_hub.pusher() as pusher:
        pusher.push_for("s390x", right, "library/arch", "1")
    put = {"put the image": lambda: stocked_hub.push(right, "library/arch", "1")}
    mended(wired, "pull arch:1", pull="arch:1", by_hand=put)


def test_disk_full(wired: StockNode, stocked_hub: Registry) -> None:
    """What nobody uses goes, and the next image is pulled."""
    for name, size in (("ballast", 40 << 20), ("next", 8 << 20)):
        stocked_hub.push(images.small(name, size), f"library/{name}", "1")
    wired.sh("crictl pull ballast:1")
    used = int(wired.sh("df --output=used /var/lib/containerd | tail -1").stdout)
    wired.sh(f"mount -o remount,size={used + 4096}k /var/lib/containerd")
    try:
        mended(wired, "pull next:1", pull="next:1")
    finally:
        wired.sh("mount -o remount,size=50% /var/lib/containerd")
