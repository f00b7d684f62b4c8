"""The cluster's part of the configuration: is it read, and can it be used?"""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from shimcore.cluster.errors import ApiUnreachableError
from shimcore.cluster.kubeconfig import read_kubeconfig
from shimcore.config.building import kubelet_config
from shimcore.config.model import KubernetesSource
from shimcore.doctor.finding import Finding, failed, passed, warned
from shimcore.doctor.node import Node
from shimcore.doctor.registry_mends import name_mend

CHECK = "cluster source"
_RESTART = "systemctl restart image-cri-shim"


async def look(node: Node) -> list[Finding]:
    """Nothing is amiss where it is not enabled."""
    if node.config is None:
        return []
    if not node.config.kubernetes.enabled:
        return [passed(CHECK, "not enabled: the file alone counts")]
    faults = node.start.faults if node.start is not None else ()
    kept = [warned(CHECK, fault, "it is written anew when the cluster answers") for fault in faults]
    state = node.facts.get("config", {}).get("kubernetes")
    if state is None:
        return [*kept, warned(CHECK, "only a running shim can tell", "see the socket above")]
    return [*kept, await _standing(state, node.config.kubernetes)]


async def _standing(state: dict[str, Any], source: KubernetesSource) -> Finding:
    """What the running shim says of it."""
    said = f"{state['state']}: {state['detail']}" if state["detail"] else state["state"]
    if state["error"]:
        mend = (
            f"mend the ConfigMap or Secret {source.namespace}/{source.name} (image-cri-shim config "
            "check FILE tries its text); the old part stays until then"
        )
        return failed(CHECK, state["error"], mend)
    if state["state"] == "watching":
        return passed(CHECK, "watched")
    if state["state"] == "refused":
        return failed(CHECK, said, _rights(source))
    start = f"start the API server; then {_RESTART}  # or wait: it is asked again within 5 minutes"
    return warned(CHECK, said, await name_mend(_host(source)) or start)


def _host(source: KubernetesSource) -> str:
    """The API server's; "localhost" where its kubeconfig cannot be read."""
    path = kubelet_config() if source.by_default else source.kubeconfig
    try:
        return urlsplit(read_kubeconfig(path).server).hostname or "localhost"
    except (ApiUnreachableError, ValueError):
        return "localhost"


def _rights(source: KubernetesSource) -> str:
    """The commands that give kubelets, whose login it is, what contrib/kubernetes/rbac.yaml has."""
    there, name = f"kubectl -n {source.namespace} create", source.name
    return (
        f"{there} role {name} --verb=get,list,watch --resource=configmaps,secrets "
        f"--resource-name={name} && {there} rolebinding {name} --role={name} --group=system:nodes "
        f"&& {_RESTART}  # kubectl as an administrator; with --user if the login is no kubelet's"
    )
