"""Every error of the project, as one tree; those of one room are in that room.

ShimError
├── ReferenceSyntaxError   an image name that the grammar does not allow
├── ConfigError            a configuration with one or more faults
│   (config) SilentFileError below it; UnreadableFileError, CredentialsFaultError: become its faults
├── StateError             what outlives a restart cannot be read or kept
├── FrameError             HTTP/2 framing that cannot be relayed
│   (relay) HeaderDecodeError, below it ExcessiveHeadersError; UnreadableMessageError
├── RegistryError          a registry that could not be asked, or that said no
│   ├── UnreachableError, below it UntrustedError; UnauthorizedError
│   (registry) ChallengeSyntaxError, ExcessiveAnswerError: become one
├── RuntimeUnavailableError  the container runtime cannot be reached; below it
│                          ForbiddenRuntimeError, SeveralRuntimesError, NoCriError
├── RuntimeCallError       a gRPC status that the runtime answered
├── ClusterError           the Kubernetes API gives no answer: ApiUnreachableError, below it
│                          BusyError, TooLongError, EndedError; RefusedError, below it
│                          ConflictError, MissingError; GoneError
├── SocketInUseError       another process serves the shim's socket
├── FleetError             a roll-out cannot go on at a node; below it BundleError,
│                          NoLeaseError
├── NotSwitchedError       a node on which nothing was touched (switch)
├── HandOverError          the successor does not serve (daemon); below it CannotHandOverError;
│                          NobodyServesError; PreloadError
├── AdminError             the running shim could not be asked, or did not do it: StartingError,
│                          UnknownCallError, RestartNeededError, HandOverFailedError,
│                          UnpreparedError
├── NamingError, StalledError, UnreadableRequestError   of an image call (images)
├── NotOursError           a file that is not edited (systemd)
├── YamlError              a text that cannot be read as YAML, or changed (yamlreading)
├── DemoError              something in the demo is not as it should be
└── FlightCancelledError   shared work was cancelled
"""

from __future__ import annotations

from dataclasses import dataclass, field

# The longest legal name has 780 characters; what is longer is repeated in no error or log.
_SHOWN_TEXT = 1024


class ShimError(Exception):
    """Base of every error that the project raises on purpose."""


class ReferenceSyntaxError(ShimError):
    """An image name that distribution/reference does not accept.

    `position` is the zero-based offset in the text at which it goes wrong; `text` is the
    text, of a long one the beginning.
    """

    def __init__(self, text: str, position: int, reason: str) -> None:
        if len(text) > _SHOWN_TEXT:
            text = text[:_SHOWN_TEXT] + "..."
        super().__init__(f"invalid image name {text!r}: {reason} (at character {position + 1})")
        self.text = text
        self.position = position
        self.reason = reason


@dataclass(frozen=True, slots=True)
class FaultPlace:
    """Where in a file a fault is, both from 1, and what may be shown of the text there.

    `marked` of `shown` (from, to) is at fault. No text is shown that may hold a secret.
    """

    line: int
    column: int
    shown: str
    marked: tuple[int, int]

    def pointing(self) -> list[str]:
        """The text with its line number, and carets below what is at fault."""
        number = f"{self.line:>5} | "
        start, end = self.marked
        return [number + self.shown, f"{'| ':>{len(number)}}{' ' * start}{'^' * (end - start)}"]


@dataclass(frozen=True, slots=True)
class ConfigFault:
    """One fault of a configuration: the dotted key path, what is wrong there, and where that is."""

    path: str
    reason: str
    place: FaultPlace | None = field(default=None, compare=False)

    def __str__(self) -> str:
        text = f"{self.path}: {self.reason}" if self.path else self.reason
        where = f" (line {self.place.line}, column {self.place.column})" if self.place else ""
        return text + where


class ConfigError(ShimError):
    """A configuration that cannot be used; carries every fault that was found.

    `reason` is all of them in a line.
    """

    def __init__(self, source: str, faults: tuple[ConfigFault, ...]) -> None:
        self.reason = "; ".join(map(str, faults))
        super().__init__(f"{source}: {self.reason}")
        self.source = source
        self.faults = faults


class FrameError(ShimError):
    """Framing that cannot be relayed; `h2_code` goes into GOAWAY (RFC 9113 §7)."""

    def __init__(self, h2_code: int, reason: str) -> None:
        super().__init__(reason)
        self.h2_code = h2_code


class RegistryError(ShimError):
    """A registry that could not be asked, or that refused; `registry` is its host."""

    def __init__(self, registry: str, reason: str) -> None:
        super().__init__(f"{registry}: {reason}")
        self.registry = registry
        self.reason = reason


class RuntimeUnavailableError(ShimError):
    """The container runtime cannot be reached at its socket."""


class SocketInUseError(ShimError):
    """Another live process serves the socket that was asked for."""


class AdminError(ShimError):
    """The running shim could not be asked over its admin socket."""
