"""The API server, asked as a pod asks it: by the ServiceAccount's token, JSON in and out."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import ssl
from collections.abc import Mapping
from pathlib import Path

from shimcore.cluster.errors import ApiUnreachableError, TooLongError
from shimcore.cluster.kubeconfig import Kubeconfig
from shimcore.cluster.server import Object, Server
from shimcore.fleet.values import FleetError
from shimcore.tls import client_context

ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
TRIES = 4
_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.5, 30.0


def pod_account(folder: Path = ACCOUNT) -> Kubeconfig:
    """The API server and this pod's login, as kubelet tells them. Raises FleetError without."""
    host = os.environ.get("KUBERNETES_SERVICE_HOST", "")
    port = os.environ.get("KUBERNETES_SERVICE_PORT", "443")
    if not host:
        raise FleetError(
            "KUBERNETES_SERVICE_HOST is not set: this command runs in a pod of the chart"
        )
    host = f"[{host}]" if ":" in host else host
    ca_file = folder / "ca.crt"
    try:
        authority = ca_file.read_bytes()
        client_context(authority)
    except (ssl.SSLError, ValueError) as error:
        raise FleetError(f"{ca_file}: not a certificate") from error
    except OSError as error:
        raise FleetError(f"{ca_file}: {error.strerror}") from error
    return Kubeconfig(
        f"https://{host}:{port}",
        authority,
        token_file=str(folder / "token"),
        whose="the pod's",
        rights="the pod needs what the chart's roles grant",
    )


class Api(Server):
    """Asks one API server, again where that may help. Raises ClusterError and what is below it."""

    async def get(
        self, path: str, query: Mapping[str, str] | None = None, accept: str = ""
    ) -> Object:
        """The object, or the list."""
        headers = {"Accept": accept} if accept else {}
        return await self._patiently("GET", path, query=query, headers=headers)

    async def put(self, path: str, body: Object) -> Object:
        """The object as it is then. Raises ConflictError where it was changed meanwhile."""
        return await self._patiently("PUT", path, body)

    async def post(self, path: str, body: Object) -> Object:
        """The object that was made."""
        return await self._patiently("POST", path, body)

    async def merge(self, path: str, body: Object) -> Object:
        """The object after a merge patch (RFC 7396): a key with None goes away."""
        headers = {"Content-Type": "application/merge-patch+json"}
        return await self._patiently("PATCH", path, body, headers=headers)

    async def _patiently(
        self,
        method: str,
        path: str,
        body: Object | None = None,
        *,
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Object:
        """The answer, after some tries. A PUT that was done unseen ends as a conflict."""
        content = None if body is None else json.dumps(body).encode()
        more = {"Content-Type": "application/json"} if content else {}
        more |= dict(headers or {})
        for number in range(1, TRIES):
            try:
                return await self.whole(method, path, query, content, more)
            except TooLongError:
                raise
            except ApiUnreachableError as error:
                await asyncio.sleep(_wait_s(number, error.retry_after_s))
                await self._follow_authority()
        return await self.whole(method, path, query, content, more)

    async def _follow_authority(self) -> None:
        """Trust whom the pod's ca.crt names by now: kubelet replaces it, as it does the token."""
        with contextlib.suppress(FleetError):  # being replaced
            account = pod_account(Path(self._config.token_file).parent)
            if account.authority != self._config.authority:
                await self.use(account)


def _wait_s(number: int, told_s: float) -> float:
    whole = min(_FIRST_WAIT_S * 2.0**number, _LONGEST_WAIT_S)
    return max(min(told_s, _LONGEST_WAIT_S), random.uniform(whole / 2, whole))  # noqa: S311
