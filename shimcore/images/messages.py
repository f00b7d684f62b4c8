"""Requests: the image they name, and the same request with another name or other credentials.

Everything else in a request stays: unknown fields, annotations, `runtime_handler`,
`user_specified_image`, the sandbox's config.
"""

from __future__ import annotations

from google.protobuf.message import DecodeError

from shimcore.images.credentials import is_empty
from shimcore.images.decision import Method
from shimcore.pb import cri_pb2

_ImageMessage = cri_pb2.PullImageRequest | cri_pb2.ImageStatusRequest | cri_pb2.RemoveImageRequest

_TYPES: dict[Method, type[_ImageMessage]] = {
    Method.PULL: cri_pb2.PullImageRequest,
    Method.STATUS: cri_pb2.ImageStatusRequest,
    Method.REMOVE: cri_pb2.RemoveImageRequest,
}


class UnreadableRequestError(ValueError):
    """Bytes that are not a request of their method."""


class ImageRequest:
    """One opened request. `method` says which message the bytes are."""

    def __init__(self, method: Method, message: bytes) -> None:
        self._parsed: _ImageMessage | cri_pb2.CreateContainerRequest
        try:
            if method is Method.CREATE:
                self._parsed = cri_pb2.CreateContainerRequest.FromString(message)
            else:
                self._parsed = _TYPES[method].FromString(message)
        except DecodeError as error:
            raise UnreadableRequestError(f"not a {method} request") from error

    @property
    def image(self) -> str:
        """The image's name or ID, as it came; "" when the request names none."""
        return self._spec().image

    @property
    def has_credentials(self) -> bool:
        """True when the caller sent credentials with a pull."""
        parsed = self._parsed
        return (
            isinstance(parsed, cri_pb2.PullImageRequest)
            and parsed.HasField("auth")
            and not is_empty(parsed.auth)
        )

    def secrets(self) -> tuple[str, ...]:
        """The caller's secret texts, to be kept out of logs."""
        if not isinstance(self._parsed, cri_pb2.PullImageRequest):
            return ()
        auth = self._parsed.auth
        known = (auth.password, auth.auth, auth.identity_token, auth.registry_token)
        return tuple(text for text in known if text)

    def named(self, name: str) -> bytes:
        """The request with another name, nothing else changed."""
        return self._with(name, self._parsed)

    def pulled_as(self, name: str, auth: cri_pb2.AuthConfig | None) -> bytes:
        """A pull under another name: the caller's credentials are gone, `auth` stands there."""
        parsed = self._pull()
        changed = cri_pb2.PullImageRequest.FromString(parsed.SerializeToString())
        changed.ClearField("auth")
        if auth is not None:
            changed.auth.CopyFrom(auth)
        changed.image.image = name
        return changed.SerializeToString()

    def authorized(self, auth: cri_pb2.AuthConfig) -> bytes:
        """A pull under its own name with `auth` in place of the caller's."""
        return self.pulled_as(self.image, auth)

    def _with(self, name: str, parsed: _ImageMessage | cri_pb2.CreateContainerRequest) -> bytes:
        spec = self._spec()
        before = spec.image
        spec.image = name
        try:
            return parsed.SerializeToString()
        finally:
            spec.image = before

    def _spec(self) -> cri_pb2.ImageSpec:
        if isinstance(self._parsed, cri_pb2.CreateContainerRequest):
            return self._parsed.config.image
        return self._parsed.image

    def _pull(self) -> cri_pb2.PullImageRequest:
        if not isinstance(self._parsed, cri_pb2.PullImageRequest):
            raise TypeError("only a pull carries credentials")
        return self._parsed
