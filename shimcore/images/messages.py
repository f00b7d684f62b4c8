"""Requests: the image they name, and the same request with another name or other credentials.

Everything else in a request stays: unknown fields, annotations, `runtime_handler`,
`user_specified_image`, the sandbox's config.
"""

from __future__ import annotations

from collections.abc import Sequence

from google.protobuf.message import DecodeError

from shimcore.errors import ShimError
from shimcore.images.call import Method
from shimcore.images.credentials import is_empty
from shimcore.pb import cri_pb2

# What decides in the runtime on the way that an image is unpacked, beside its runtime handler.
_SNAPSHOT_ANNOTATIONS = ("io.containerd.", "containerd.io/")

MOUNTS = 4096
IMAGES = 16
"""Mounts of a container that are looked through for images, and images that one request may name:
up to 50 ms of work each, under 64 KiB of `exclude` patterns that are made for it. A pod of hundreds
of mounts has subPaths of them."""

_Request = (
    cri_pb2.PullImageRequest
    | cri_pb2.ImageStatusRequest
    | cri_pb2.RemoveImageRequest
    | cri_pb2.CreateContainerRequest
    | cri_pb2.RunPodSandboxRequest
)

_TYPES: dict[Method, type[_Request]] = {
    Method.PULL: cri_pb2.PullImageRequest,
    Method.STATUS: cri_pb2.ImageStatusRequest,
    Method.REMOVE: cri_pb2.RemoveImageRequest,
    Method.CREATE: cri_pb2.CreateContainerRequest,
    Method.SANDBOX: cri_pb2.RunPodSandboxRequest,
}


class UnreadableRequestError(ShimError):
    """Bytes that are not a request of their method, or name too much."""


class ImageRequest:
    """One opened request. `method` says which message the bytes are."""

    def __init__(self, method: Method, message: bytes) -> None:
        try:
            self._parsed = _TYPES[method].FromString(message)
        except DecodeError as error:
            raise UnreadableRequestError(f"not a {method} request") from error
        # Every image that the request names: its own, and those of a container's volumes.
        self.images = [spec.image for spec in self._specs()]
        if len(self.images) > IMAGES:
            raise UnreadableRequestError(f"a {method} request with more than {IMAGES} images")

    @property
    def image(self) -> str:
        """The image's name or ID, as it came; "" when the request names none."""
        return self.images[0] if self.images else ""

    @property
    def message(self) -> bytes:
        """The request as it stands."""
        return self._parsed.SerializeToString()

    @property
    def pod(self) -> str:
        """`namespace/name` of the pod that a pull is for, "" where none is given."""
        if not isinstance(self._parsed, cri_pb2.PullImageRequest):
            return ""
        metadata = self._parsed.sandbox_config.metadata
        return f"{metadata.namespace}/{metadata.name}" if metadata.name else ""

    def sharing_key(self, *, by_namespace: bool) -> bytes:
        """Equal for pulls that may be made once for all: those that differ in nothing but the
        sandbox's metadata and annotations that are nothing to the runtime. `by_namespace`: the
        pod's namespace is something to it."""
        parsed = self._pull()
        kept = cri_pb2.PullImageRequest()
        kept.image.CopyFrom(parsed.image)
        kept.image.ClearField("annotations")
        kept.auth.CopyFrom(parsed.auth)
        if by_namespace:
            kept.sandbox_config.metadata.namespace = parsed.sandbox_config.metadata.namespace
        for given, to in (
            (parsed.image.annotations, kept.image.annotations),
            (parsed.sandbox_config.annotations, kept.sandbox_config.annotations),
        ):
            for key, value in given.items():
                if key.startswith(_SNAPSHOT_ANNOTATIONS):
                    to[key] = value
        has_sandbox = b"\1" if parsed.HasField("sandbox_config") else b"\0"
        return has_sandbox + kept.SerializeToString(deterministic=True)

    def secrets(self) -> tuple[str, ...]:
        """The caller's secret texts, to be kept out of logs."""
        if not isinstance(self._parsed, cri_pb2.PullImageRequest):
            return ()
        auth = self._parsed.auth
        known = (auth.password, auth.auth, auth.identity_token, auth.registry_token)
        return tuple(text for text in known if text)

    @property
    def handler(self) -> str:
        """The runtime handler of a sandbox, "" for the default one."""
        parsed = self._parsed
        return parsed.runtime_handler if isinstance(parsed, cri_pb2.RunPodSandboxRequest) else ""

    def renamed(self, names: Sequence[str]) -> bytes:
        """The request with other names, in the order of `images`, and nothing else changed."""
        specs = self._specs()
        before = [spec.image for spec in specs]
        for spec, name in zip(specs, names, strict=True):
            spec.image = name
        try:
            return self._parsed.SerializeToString()
        finally:
            for spec, name in zip(specs, before, strict=True):
                spec.image = name

    def pulled_as(self, name: str, auth: cri_pb2.AuthConfig | None) -> bytes:
        """A pull under another name: the caller's credentials are gone, `auth` stands there."""
        parsed = self._pull()
        changed = cri_pb2.PullImageRequest.FromString(parsed.SerializeToString())
        changed.ClearField("auth")
        if auth is not None:
            changed.auth.CopyFrom(auth)
        changed.image.image = name
        return changed.SerializeToString()

    def authorized(self, name: str, auth: cri_pb2.AuthConfig | None) -> bytes | None:
        """A pull under its own name with `auth`; None without it, or if the caller sent its own."""
        if auth is None or not is_empty(self._pull().auth):
            return None
        return self.pulled_as(name, auth)

    def _specs(self) -> list[cri_pb2.ImageSpec]:
        parsed = self._parsed
        if isinstance(parsed, cri_pb2.RunPodSandboxRequest):
            return []
        if not isinstance(parsed, cri_pb2.CreateContainerRequest):
            return [parsed.image]
        mounts = parsed.config.mounts
        if len(mounts) > MOUNTS:
            raise UnreadableRequestError(f"a container with more than {MOUNTS} mounts")
        volumes = [mount.image for mount in mounts if mount.image.image]
        return [parsed.config.image, *volumes]

    def _pull(self) -> cri_pb2.PullImageRequest:
        if not isinstance(self._parsed, cri_pb2.PullImageRequest):
            raise TypeError("only a pull carries credentials")
        return self._parsed
