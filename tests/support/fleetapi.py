"""A stand-in for the Kubernetes API server: objects by path, as a roll-out's pods use them.

GET, POST, PUT and merge patches with resource versions (409), lists with label selectors, pages and
counts, a clock of its own in `Date`, and faults on request.
"""

from __future__ import annotations

import contextlib
import json
import re
import threading
from collections.abc import Callable, Iterator
from copy import deepcopy
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from shimcore.cluster.kubeconfig import Kubeconfig
from shimcore.switch.exchange import Revision

TOKEN = "pod-token-x2v9"
NAMESPACE = "kube-system"
MAPS = f"/api/v1/namespaces/{NAMESPACE}/configmaps"
LEASES = f"/apis/coordination.k8s.io/v1/namespaces/{NAMESPACE}/leases"
NODES = "/api/v1/nodes"
PODS = f"/apis/apps/v1/namespaces/{NAMESPACE}/daemonsets/image-cri-shim"
EVENTS = "/api/v1/namespaces/default/events"


class FleetApi:
    """The server and what it stores; safe to look into from another thread."""

    def __init__(self) -> None:
        self.objects: dict[str, dict[str, Any]] = {}
        self.offset = timedelta()
        self.asked: list[tuple[str, str]] = []
        self.fault: Callable[[str, str], int | None] = lambda method, path: None
        self.lost = False
        """Whether a request with a fault is done, and only its answer is not."""
        self.scheduled: int | None = None
        """For how many nodes pods are; None: for all."""
        self.lock = threading.RLock()
        self._version = 100
        self._server: ThreadingHTTPServer | None = None

    def start(self) -> None:
        """Listen; at the same port as before if there was one."""
        port = self.port if self._server else 0
        self._server = ThreadingHTTPServer(("127.0.0.1", port), _handler(self))
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def stop(self) -> None:
        """Listen no longer."""
        assert self._server is not None
        self._server.shutdown()
        self._server.server_close()

    @property
    def port(self) -> int:
        """Where it listens."""
        assert self._server is not None
        return int(self._server.server_address[1])

    def place(self, folder: Path) -> Kubeconfig:
        """How a pod finds it."""
        token = folder / "token"
        token.write_text(TOKEN + "\n")
        return Kubeconfig(f"http://127.0.0.1:{self.port}", token_file=str(token))

    @property
    def now(self) -> datetime:
        """Its clock."""
        return datetime.now(UTC) + self.offset

    # -- the store

    def put(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """Store an object as it is."""
        with self.lock:
            self._version += 1
            stored = deepcopy(body)
            name = path.rpartition("/")[2]
            stored.setdefault("metadata", {})
            stored["metadata"] |= {"name": name, "resourceVersion": str(self._version)}
            self.objects[path] = stored
            return stored

    def want(self, revision: str, mode: str = "install", **more: str) -> None:
        """The fleet's ConfigMap."""
        data = {"revision": revision, "mode": mode, "soak": "0s", "wave": "5", "health": "5s"}
        self.put(f"{MAPS}/image-cri-shim-fleet", {"data": {**data, **more}})

    def prepare(self, revision: str = "r1", *, slots: int = 64, **more: str) -> None:
        """What the chart makes."""
        self.want(revision, **more)
        self.put(f"{MAPS}/image-cri-shim-rollout", {})
        for slot in range(slots):
            self.put(f"{LEASES}/image-cri-shim-slot-{slot}", {"spec": {}})

    def add_node(
        self, name: str, *, control_plane: bool = False, labels: dict[str, str] | None = None
    ) -> None:
        """A node that is Ready."""
        role = {"node-role.kubernetes.io/control-plane": ""} if control_plane else {}
        self.put(f"{NODES}/{name}", {"metadata": {"labels": {**(labels or {}), **role}}})
        self.set_ready(name, True)

    def set_ready(self, name: str, ready: bool, ago_s: float = 0) -> None:
        """The node's Ready condition, and since when it is so."""
        since = (self.now - timedelta(seconds=ago_s)).strftime("%Y-%m-%dT%H:%M:%SZ")
        status = "True" if ready else "Unknown"
        condition = {"type": "Ready", "status": status, "lastTransitionTime": since}
        with self.lock:
            node = self.objects[f"{NODES}/{name}"]
            self.put(f"{NODES}/{name}", {**node, "status": {"conditions": [condition]}})

    def labels(self, node: str) -> dict[str, str]:
        """Those of the project that a node has, without their prefix."""
        with self.lock:
            labels = self.objects[f"{NODES}/{node}"]["metadata"].get("labels", {})
        prefix = "image-cri-shim.io/"
        return {k.removeprefix(prefix): v for k, v in labels.items() if k.startswith(prefix)}

    def holders(self) -> dict[int, str]:
        """Slot → the node that has it."""
        found = {}
        with self.lock:
            for path, item in self.objects.items():
                holder = (item.get("spec") or {}).get("holderIdentity")
                if path.startswith(LEASES) and holder:
                    found[int(path.rpartition("-")[2])] = holder
        return found

    def halted(self) -> dict[Revision, str]:
        """Revision → why it is halted."""
        with self.lock:
            data = self.objects[f"{MAPS}/image-cri-shim-rollout"].get("data") or {}
        return {one["revision"]: one["reason"] for one in json.loads(data.get("halts", "[]"))}

    def events(self) -> list[dict[str, Any]]:
        """Those that were made, in order."""
        with self.lock:
            return [item for path, item in self.objects.items() if path.startswith(EVENTS)]

    # -- answers

    def answer(
        self, method: str, target: str, headers: Any, content: bytes
    ) -> tuple[int, dict[str, Any]]:
        """Status and body."""
        split = urlsplit(target)
        query = {name: values[0] for name, values in parse_qs(split.query).items()}
        with self.lock:
            self.asked.append((method, target))
            if headers.get("Authorization") != f"Bearer {TOKEN}":
                return _status(401, "Unauthorized")
            fault = self.fault(method, split.path)
            if fault is not None and not self.lost:
                return _status(fault, "as told")
            body = json.loads(content) if content else {}
            if method == "POST":
                name = f"{body['metadata']['generateName']}{len(self.objects)}"
                answer = 201, self.put(f"{split.path}/{name}", body)
            elif split.path == NODES:
                only = "as=Partial" in headers.get("Accept", "")
                answer = self._list(query, metadata_only=only)
            elif split.path == PODS:
                nodes = [path for path in self.objects if path.startswith(f"{NODES}/")]
                scheduled = len(nodes) if self.scheduled is None else self.scheduled
                answer = 200, {"status": {"desiredNumberScheduled": scheduled}}
            else:
                answer = self._one(method, split.path, body)
            return answer if fault is None else _status(fault, "as told")

    def _one(self, method: str, path: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        stored = self.objects.get(path)
        if stored is None:
            return _status(404, f"{path} not found")
        if method == "GET":
            return 200, stored
        version = body.get("metadata", {}).get("resourceVersion")
        if version is not None and version != stored["metadata"]["resourceVersion"]:
            return _status(409, "the object has been modified")
        return 200, self.put(path, body if method == "PUT" else _merged(stored, body))

    def _list(self, query: dict[str, str], *, metadata_only: bool) -> tuple[int, dict[str, Any]]:
        selector = query.get("labelSelector", "")
        found = [
            item
            for path, item in sorted(self.objects.items())
            if path.startswith(f"{NODES}/") and _selects(selector, item["metadata"].get("labels"))
        ]
        start, limit = int(query.get("continue", "0")), int(query.get("limit", "500"))
        page, rest = found[start : start + limit], len(found) - start - limit
        metadata: dict[str, Any] = {"resourceVersion": str(self._version)}
        if rest > 0:
            metadata["continue"] = str(start + limit)
            if not selector:  # unknown with one (metav1.ListMeta)
                metadata["remainingItemCount"] = rest
        if metadata_only:
            page = [{"metadata": item["metadata"]} for item in page]
        return 200, {"kind": "List", "metadata": metadata, "items": page}


def _selects(selector: str, labels: dict[str, str] | None) -> bool:
    """Equality and existence, as labels.Parse has them."""
    labels = labels or {}
    for term in filter(None, selector.split(",")):
        differs = re.fullmatch(r"([^!=]+)!=(.*)", term)
        equals = re.fullmatch(r"([^!=]+)==?(.*)", term)
        if differs:
            good = labels.get(differs[1]) != differs[2]
        elif equals:
            good = labels.get(equals[1]) == equals[2]
        elif term.startswith("!"):
            good = term[1:] not in labels
        else:
            good = term in labels
        if not good:
            return False
    return True


def _merged(old: dict[str, Any], patch: dict[str, Any]) -> dict[str, Any]:
    """RFC 7396."""
    new = dict(old)
    for key, value in patch.items():
        if value is None:
            new.pop(key, None)
        elif isinstance(value, dict):
            new[key] = _merged(new.get(key) or {}, value)
        else:
            new[key] = value
    return new


def _status(code: int, message: str) -> tuple[int, dict[str, Any]]:
    return code, {"kind": "Status", "status": "Failure", "code": code, "message": message}


def _handler(api: FleetApi) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do(self) -> None:
            length = int(self.headers.get("Content-Length", "0"))
            code, body = api.answer(self.command, self.path, self.headers, self.rfile.read(length))
            content = json.dumps(body).encode()
            self.send_response_only(code)
            self.send_header("Date", format_datetime(api.now, usegmt=True))
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def handle(self) -> None:
            with contextlib.suppress(ConnectionError):
                super().handle()

        do_GET = do_POST = do_PUT = do_PATCH = do  # noqa: N815 - http.server's names

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            """Say nothing."""

    return Handler


@contextlib.contextmanager
def fleet_api() -> Iterator[FleetApi]:
    """A started server, stopped at the end."""
    api = FleetApi()
    api.start()
    try:
        yield api
    finally:
        api.stop()
