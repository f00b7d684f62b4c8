"""The Docker Engine behind cri-dockerd: it alone can give an image another name there.

CRI has no call for it. Docker Engine API, "Tag an image".
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote

from shimcore.errors import ShimError

if TYPE_CHECKING:
    from shimcore.reference import Reference
    from shimcore.runtime.client import RuntimeClient

ENGINE_SOCKET = "/var/run/docker.sock"
"""Where cri-dockerd looks for the engine, too (its `--docker-endpoint`)."""

ANSWER_S = 10.0
"""Bound on one request; a tag takes milliseconds."""

RUNTIME_NAME = "docker"
"""What cri-dockerd calls its runtime (CRI's Version)."""


class DockerEngine:
    """Tags images where the runtime is cri-dockerd; elsewhere it says that it cannot."""

    def __init__(self, runtime: RuntimeClient, socket: str = ENGINE_SOCKET) -> None:
        self._runtime = runtime
        self._socket = socket

    async def tag(self, pulled: Reference, image: Reference) -> bool:
        """Whether the image `pulled` has the name `image` now, too. A digest is no tag.

        Raises ShimError when the engine should have done it and did not.
        """
        if image.digest or image.tag is None:
            return False
        if (await self._runtime.version(ANSWER_S)).name != RUNTIME_NAME:
            return False
        import httpx  # noqa: PLC0415 - only such nodes need it here

        path = f"/images/{quote(str(pulled), safe='')}/tag"
        try:
            async with httpx.AsyncClient(
                transport=httpx.AsyncHTTPTransport(uds=self._socket),
                base_url="http://docker",
                timeout=ANSWER_S,
            ) as client:
                answer = await client.post(path, params={"repo": image.name, "tag": image.tag})
        except httpx.HTTPError as error:
            why = str(error) or type(error).__name__
            raise ShimError(
                f"the Docker Engine at {self._socket} does not answer: {why}"
            ) from error
        if answer.status_code != httpx.codes.CREATED:
            text = answer.text[:200]
            raise ShimError(f"the Docker Engine refused a tag: {answer.status_code} {text}")
        return True
