"""What the API server keeps of a roll-out: the wish, halts, slots, nodes.

Three kinds of objects carry it, all made by the chart so that nobody needs the right to make one:
the ConfigMap `NAME-fleet` (the wish; only read here), the ConfigMap `NAME-rollout` (halts, and what
enough nodes are well with) and the Leases `NAME-slot-N`. What a node has become is in labels of the
node itself.
"""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any, TypeVar

from shimcore.cluster.errors import ConflictError, MissingError, RefusedError, TooLongError
from shimcore.cluster.server import Object
from shimcore.config.durations import parse_duration
from shimcore.fleet.api import Api
from shimcore.fleet.slots import DEAD_S, ENOUGH_WELL, LEASE_S
from shimcore.fleet.values import FleetError, Halt, Lease, NoLeaseError, Rollout, Wanted, text_of
from shimcore.jsontext import text_at, value_at
from shimcore.switch.exchange import LONGEST_HEALTH_S, SHORTEST_HEALTH_S, Mode, Revision

PREFIX = "image-cri-shim.io/"
VERSION_LABEL, STATE_LABEL, REVISION_LABEL = (
    PREFIX + "version",
    PREFIX + "state",
    PREFIX + "revision",
)
CONTROL_PLANE = "node-role.kubernetes.io/control-plane"
ETCD = "node-role.kubernetes.io/etcd"
"""Of k3s and RKE2: a server without an API server, which is restarted to be wired."""
UNSUPPORTED = "unsupported"
REMOVED = "removed"

T = TypeVar("T")

_METADATA = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
_REVISION = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]{0,61}[A-Za-z0-9]")
_PAGE = 16
_KEPT_HALTS = 16
_TRIES = 5
_REASON_LIMIT = 500


@dataclass(frozen=True, slots=True)
class Node:
    """A node as the API server has it."""

    name: str
    labels: Mapping[str, str]
    ready: bool
    ready_since: datetime | None
    """When that changed last."""

    @property
    def control_plane(self) -> bool:
        """Whether it is one, or has a part of one, by its labels."""
        return CONTROL_PLANE in self.labels or ETCD in self.labels

    def dead(self, now: datetime) -> bool:
        """Whether nobody needs to wait for it."""
        if self.ready:
            return False
        return self.ready_since is None or (now - self.ready_since).total_seconds() > DEAD_S


class Records:
    """Reads and writes them. Methods raise ClusterError and FleetError."""

    def __init__(self, api: Api, namespace: str, name: str) -> None:
        self._api = api
        self._maps = f"/api/v1/namespaces/{namespace}/configmaps"
        self._leases = f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases"
        self._pods = f"/apis/apps/v1/namespaces/{namespace}/daemonsets/{name}"
        self._name = name
        self._page = _PAGE

    @property
    def now(self) -> datetime:
        """The API server's clock at its last answer."""
        return self._api.now

    # -- the wish

    async def wanted(self) -> Wanted:
        """What the operator wants now."""
        return read_wanted(_data(await self._api.get(f"{self._maps}/{self._name}-fleet")))

    async def want_removal(self, revision: Revision) -> None:
        """Change the wish to the removal."""
        data = {"mode": Mode.REMOVE.value, "revision": revision}
        await self._api.merge(f"{self._maps}/{self._name}-fleet", {"data": data})

    # -- what is known of all nodes

    async def rollout(self) -> Rollout:
        """Halts, the newest first, and the revision that enough nodes are well with."""
        return _rollout(await self._api.get(self._shared))

    async def halt(self, revision: Revision, node: str, reason: str) -> None:
        """Have nobody begin the revision any more. The first reason stays."""

        def add(known: Rollout) -> dict[str, str] | None:
            if revision in known.halted:
                return None
            new = Halt(revision, node, reason[:_REASON_LIMIT], text_of(self.now))
            kept = [asdict(each) for each in (new, *known.halts)][:_KEPT_HALTS]
            return {"halts": json.dumps(kept, indent=1)}

        await self._share(add)

    async def note_enough(self, revision: Revision) -> None:
        """Tell all nodes if enough of them are well with the revision.

        Whoever has become well asks. If those who wait did, API servers would read every node from
        their store each time.
        """
        if (await self.rollout()).enough == revision:
            return
        if await self.count_well(revision) >= ENOUGH_WELL:
            await self._share(lambda _: {"enough": revision})

    async def _share(self, change: Callable[[Rollout], dict[str, str] | None]) -> None:
        """Change some of the data; None leaves all of it."""
        for _ in range(_TRIES):
            found = await self._api.get(self._shared)
            new = change(_rollout(found))
            if new is None:
                return
            try:
                await self._api.put(self._shared, {**found, "data": {**_data(found), **new}})
            except ConflictError:
                continue
            return
        raise FleetError(f"{self._shared}: it changes too often; nothing is written")

    @property
    def _shared(self) -> str:
        return f"{self._maps}/{self._name}-rollout"

    # -- slots

    async def lease(self, slot: int) -> Lease:
        """The slot as it is now."""
        try:
            return _lease(slot, await self._api.get(self._path(slot)))
        except MissingError as error:
            raise NoLeaseError(
                f"{error}: the chart's Leases are not all there, and no node begins without; "
                "Argo CD leaves them out by its `resource.exclusions`"
            ) from error

    async def take(self, lease: Lease, node: str) -> Lease:
        """Have the slot, or have it for longer. Raises ConflictError where another was faster."""
        now = micro_time(self.now)
        spec: Object = {
            "holderIdentity": node,
            "leaseDurationSeconds": LEASE_S,
            "renewTime": now,
        }
        if lease.holder != node:
            spec["acquireTime"] = now
        return await self._write(lease, spec)

    async def give_back(self, lease: Lease) -> None:
        """Free the slot, whosever it is; ConflictError where it is not as `lease` has it."""
        await self._write(lease, {"holderIdentity": None, "renewTime": None, "acquireTime": None})

    async def _write(self, lease: Lease, spec: Object) -> Lease:
        """Changed only if nobody changed it since: a merge patch that names its version."""
        body = {"metadata": {"resourceVersion": lease.version}, "spec": spec}
        return _lease(lease.slot, await self._api.merge(self._path(lease.slot), body))

    def _path(self, slot: int) -> str:
        return f"{self._leases}/{self._name}-slot-{slot}"

    # -- nodes

    async def node(self, name: str) -> Node | None:
        """The node; None where there is none of that name."""
        try:
            return _node(await self._api.get(f"/api/v1/nodes/{name}"))
        except MissingError:
            return None

    async def label(self, name: str, labels: Mapping[str, str | None]) -> None:
        """Set labels of the node; None takes one away."""
        await self._api.merge(f"/api/v1/nodes/{name}", {"metadata": {"labels": dict(labels)}})

    async def count_nodes(self) -> int:
        """How many there are for the chart's pods, by their DaemonSet; else all."""
        try:
            pods = await self._api.get(self._pods)
        except RefusedError:
            # 1.0.0's chart with this version's image does not let them read it; until 2.0.
            found = await self._api.get("/api/v1/nodes", {"limit": "1"}, _METADATA)
            return len(_items(found)) + int(value_at(found, "metadata", "remainingItemCount") or 0)
        return int(value_at(pods, "status", "desiredNumberScheduled") or 0)

    async def count_well(self, revision: Revision) -> int:
        """How many are well with the revision, up to as many as it matters."""
        selector = f"{REVISION_LABEL}={revision},{STATE_LABEL}!={UNSUPPORTED}"
        query = {"labelSelector": selector, "limit": str(ENOUGH_WELL)}
        return len(_items(await self._api.get("/api/v1/nodes", query, _METADATA)))

    async def count_lost(self, node: Node) -> int:
        """Of how many nothing is heard after the same label as this one's, itself included."""
        alike = self.each(f"{STATE_LABEL}={node.labels[STATE_LABEL]}")
        return len({node.name} | {each.name async for each in alike if not each.ready})

    async def first_left(self, wanted: Wanted, *, workers: bool = False) -> str | None:
        """A node, or worker, that is alive and not yet well with what is wanted; else None."""
        selector = _undone(wanted)
        if workers:
            selector = f"!{CONTROL_PLANE},!{ETCD},{selector}"
        async for node in self.each(selector):
            if not node.dead(self.now):
                return node.name
        return None

    async def each(self, selector: str) -> AsyncIterator[Node]:
        """Every node that the selector selects, page by page.

        Nodes that list all their images (`nodeStatusMaxImages: -1`) are large: fewer fit then.
        """
        query = {"labelSelector": selector}
        while True:
            try:
                found = await self._api.get("/api/v1/nodes", {**query, "limit": str(self._page)})
            except TooLongError:
                if self._page == 1:
                    raise
                self._page //= 2
                continue
            for item in _items(found):
                yield _node(item)
            more = text_at(found, "metadata", "continue")
            if not more:
                return
            query = {**query, "continue": more}

    async def tell(self, node: str, reason: str, message: str, *, warning: bool) -> None:
        """An Event on the node, where `kubectl describe node` shows it."""
        now = text_of(self.now)
        body: Object = {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"generateName": "image-cri-shim-", "namespace": "default"},
            # kubelet names a node in its Events so: by name, also in place of the UID.
            "involvedObject": {"kind": "Node", "name": node, "uid": node},
            "reason": reason,
            "message": message[:1024],
            "type": "Warning" if warning else "Normal",
            "source": {"component": "image-cri-shim", "host": node},
            "reportingComponent": "image-cri-shim.io/fleet",
            "reportingInstance": node,
            "firstTimestamp": now,
            "lastTimestamp": now,
            "count": 1,
        }
        await self._api.post("/api/v1/namespaces/default/events", body)


def read_wanted(data: Mapping[str, str]) -> Wanted:
    """The wish, as the chart writes it. Raises FleetError, naming the key."""

    def read(key: str, kind: Callable[[str], T], default: str = "") -> T:
        try:
            return kind(data.get(key, default))
        except ValueError as error:
            raise FleetError(f"the fleet's ConfigMap: {key}: {error}") from error

    return Wanted(
        revision=read("revision", _revision),
        mode=read("mode", Mode),
        wave_percent=read("wave", _percent, "5"),
        soak_s=read("soak", parse_duration, "2m"),
        health_s=read("health", _seconds, "20s"),
        wire_runtime=read("wireRuntime", _truth, "true"),
        wire_kubelet=read("wireKubelet", _truth, "true"),
        selector=data.get("nodeSelector", ""),
        has_node_file=read("nodeFile", _truth, "false"),
    )


def micro_time(at: datetime) -> str:
    """RFC 3339 in microseconds (metav1.MicroTime)."""
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _undone(wanted: Wanted) -> str:
    left = f"{REVISION_LABEL}!={wanted.revision}"
    if wanted.mode is Mode.REMOVE:
        left += f",{STATE_LABEL}"  # one without it never had anything
    return f"{wanted.selector},{left}" if wanted.selector else left


def _rollout(found: Object) -> Rollout:
    data = _data(found)
    try:
        listed = json.loads(data.get("halts", "[]"))
        halts = tuple(
            Halt(
                Revision(str(one["revision"])), str(one["node"]), str(one["reason"]), str(one["at"])
            )
            for one in listed
        )
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise FleetError(f"the roll-out's ConfigMap: `halts` cannot be read ({error})") from error
    return Rollout(halts, data.get("enough", ""))


def _lease(slot: int, found: Object) -> Lease:
    return Lease(
        slot,
        text_at(found, "metadata", "resourceVersion"),
        text_at(found, "spec", "holderIdentity"),
        _time(value_at(found, "spec", "renewTime")),
        int(value_at(found, "spec", "leaseDurationSeconds") or 0),
    )


def _node(found: Object) -> Node:
    conditions = value_at(found, "status", "conditions") or []
    ready = next((one for one in conditions if text_at(one, "type") == "Ready"), None)
    return Node(
        text_at(found, "metadata", "name"),
        _texts(value_at(found, "metadata", "labels")),
        text_at(ready, "status") == "True",
        _time(value_at(ready, "lastTransitionTime")),
    )


def _time(value: object) -> datetime | None:
    try:
        return datetime.fromisoformat(str(value)) if value else None
    except ValueError:
        return None


def _data(found: Object) -> dict[str, str]:
    return _texts(found.get("data"))


def _items(found: Object) -> list[Any]:
    items = found.get("items")
    return items if isinstance(items, list) else []


def _texts(tree: object) -> dict[str, str]:
    return {str(key): str(value) for key, value in (tree if isinstance(tree, dict) else {}).items()}


def _revision(text: str) -> Revision:
    # It is a label's value, too; the number of a repetition follows a point.
    if not _REVISION.fullmatch(text):
        raise ValueError(f"{text!r} is none")
    return Revision(text)


def _seconds(text: str) -> int:
    value = round(parse_duration(text))
    if not SHORTEST_HEALTH_S <= value <= LONGEST_HEALTH_S:
        raise ValueError(f"{text!r} is not from {SHORTEST_HEALTH_S}s to {LONGEST_HEALTH_S}s")
    return value


def _percent(text: str) -> float:
    value = float(text.removesuffix("%"))
    if not 0 < value <= 100:
        raise ValueError(f"{text!r} is no percentage")
    return value


def _truth(text: str) -> bool:
    if text not in {"true", "false"}:
        raise ValueError(f"{text!r} is neither true nor false")
    return text == "true"
