"""The cluster's part of the configuration: is it read, and can it be used?"""

from __future__ import annotations

from typing import Any

from shimcore.doctor.finding import Finding, failed, passed, warned
from shimcore.doctor.node import Node

CHECK = "cluster source"
_MENDS = {
    "refused": "give the node the rights in contrib/kubernetes/rbac.yaml (get, list, watch)",
    "not installed": "install image-cri-shim[kubernetes], or set kubernetes.enabled: false",
}


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
    return [*kept, _standing(state)]


def _standing(state: dict[str, Any]) -> Finding:
    """What the running shim says of it."""
    said = f"{state['state']}: {state['detail']}" if state["detail"] else state["state"]
    if state["error"]:
        mend = "mend the ConfigMap or Secret (image-cri-shim config check FILE); the old part stays"
        return failed(CHECK, state["error"], mend)
    if state["state"] == "watching":
        return passed(CHECK, "watched")
    if state["state"] in _MENDS:
        return failed(CHECK, said, _MENDS[state["state"]])
    return warned(
        CHECK, said, "see that the API server answers; what it said last counts meanwhile"
    )
