"""Typed values → Config: what no single key can say (priorities, logins, order, duplicates)."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

from shimcore.config.credentials import CredentialsFaultError, Login, find_login
from shimcore.config.document import Tree, joined
from shimcore.config.files import Files, UnreadableFileError
from shimcore.config.keys import (
    CACHE_KEYS,
    CACHE_LIMIT,
    CACHE_OFF,
    KUBELET_CONFIGS,
    LOGIN_KEYS,
    PRIORITY_LIMIT,
    TOP_KEYS,
    Kind,
)
from shimcore.config.model import (
    ANY_HOST,
    CacheSettings,
    Config,
    Fallback,
    KubernetesSource,
    LoneLogin,
    OnFailure,
    Registry,
)
from shimcore.config.reading import Reader, Values, variable_hint
from shimcore.config.values import SOCKET_PATH_LIMIT_BYTES, Address, place_of
from shimcore.errors import ConfigError, ConfigFault
from shimcore.reference import Mirror, Patterns

_AS_READ = {Kind.BOOLEAN, Kind.DURATION, Kind.IMAGE, Kind.LISTEN, Kind.CHOICE}
"""Kinds of keys at the top whose values stand in the model as they are read."""
_ON_FAILURE = {Fallback.ALLOW: OnFailure.BYPASS, Fallback.DENY: OnFailure.CLOSED}
_ENVIRONMENT = "environment (KUBECONFIG)"
_HUB = "hub"
"""The key path of the hub's options."""
_AT_TOP = {"auth": "auth", "priority": "offlinePriority"}
"""Those of them that are keys at the top."""


def build(
    tree: Tree,
    source: str,
    files: Files,
    known_faults: list[ConfigFault],
    origins: Mapping[str, str] | None = None,
) -> Config:
    """The configuration; ConfigError with all faults if there is one.

    `origins` says of each key path in `tree` where it came from, if not all from `source`.
    """
    return _Building(source, files, known_faults, origins or {}).config(tree)


class _Building:
    def __init__(
        self,
        source: str,
        files: Files,
        known_faults: list[ConfigFault],
        origins: Mapping[str, str],
    ) -> None:
        self._source = source
        self._files = files
        self._origins = dict(origins)
        self._reader = Reader()
        self._reader.faults.add(known_faults)
        self._notices = self._reader.notices
        self._lone_logins: list[LoneLogin] = []
        self._has_inline_password = False
        # What each file holds, or what is wrong with it: registries share one.
        self._authorities: dict[str, bytes | str] = {}

    def config(self, tree: Tree) -> Config:
        values = self._reader.mapping(tree, TOP_KEYS, "")
        stall_s = values["stallTimeout"]
        hub = self._hub(values, stall_s)
        registries = self._registries(values["registries"], stall_s)
        every = self._each_host_once(hub, registries)
        shim, admin = self._sockets(values)
        cache = self._cache(values["cache"])
        kubernetes = self._kubernetes(values["kubernetes"])
        self._general_notices()
        if self._reader.faults:  # a hub that is not there is one
            raise ConfigError(self._source, tuple(self._reader.faults))
        values["onFailure"] = values["onFailure"] or _ON_FAILURE[values["fallback"]]
        hub = every[0]
        every.sort(key=lambda registry: (-registry.priority, not registry.is_hub, registry.host))
        return Config(
            source=self._source,
            shim_socket=shim,
            runtime_socket=values["cri"],
            hub=hub,
            registries=tuple(every),
            exclude=Patterns(values["exclude"] or ()).ready(),
            admin_socket=admin,
            state_dir=self._files.resolve(values["stateDir"]),
            cache=cache,
            notices=tuple(self._notices),
            kubernetes=kubernetes,
            lone_logins=tuple(self._lone_logins),
            origins=self._origins,
            files=self._files.stamps(),
            **{key.attribute: values[key.name] for key in TOP_KEYS if key.kind in _AS_READ},
        )

    def _hub(self, values: Values, stall_s: float) -> Registry | None:
        if values["address"] is None:
            if not any(fault.path == "address" for fault in self._reader.faults):
                reason = "is required: the hub's address, for example http://sealos.hub:5000"
                self._reader.faults.note("address", reason)
            return None
        options = values["hub"] | {
            "address": values["address"],
            "auth": values["auth"],
            "priority": values["offlinePriority"],
        }
        return self._registry(options, _HUB, stall_s)

    def _registries(self, entries: list[Values], stall_s: float) -> list[Registry]:
        """An empty address is skipped, as the Go shim does."""
        built = []
        for index, options in enumerate(entries):
            path = f"registries[{index}]"
            if options["address"] is not None:
                built.append(self._registry(options, path, stall_s))
            elif options["auth"] or options["passwordFile"] or options["dockerConfig"]:
                login = LoneLogin(self._source, path)
                self._lone_logins.append(login)
                self._notices.append(str(login))
            elif not any(fault.path.startswith(path) for fault in self._reader.faults):
                self._notices.append(f"{path} has no address and is not used")
        return built

    def _registry(self, options: Values, path: str, stall_s: float) -> Registry:
        at = partial(_key_path, path)
        address: Address = options["address"]
        password_file = self._resolved(options["passwordFile"])
        docker_config = self._resolved(options["dockerConfig"])
        login = Login(None)
        try:
            login = find_login(options["auth"], password_file, docker_config, address, self._files)
        except CredentialsFaultError as fault:
            self._reader.faults.note(at(fault.key), self._login_fault(fault, options))
        if login.source == "auth" and variable_hint(options["auth"]):
            self._notices.append(
                f"{at('auth')}: taken as it stands{variable_hint(options['auth'])}"
            )
        self._note_login(login, at, [password_file, docker_config])
        ca_file = self._resolved(options["caFile"])
        return Registry(
            address=address.url,
            scheme=address.scheme,
            host=address.host,
            priority=self._priority(options["priority"], at("priority")),
            is_hub=path == _HUB,
            credentials=login.credentials,
            credentials_source=login.source,
            ca_file=ca_file,
            insecure_skip_verify=options["insecureSkipVerify"],
            stall_timeout_s=options["stallTimeout"] or stall_s,
            mirror=Mirror(address.host, options["path"], self._domains(options, at("domains"))),
            password_file=password_file,
            docker_config=docker_config,
            authority=self._authority(ca_file, at("caFile")) if ca_file else None,
            key=path,
        )

    def _login_fault(self, fault: CredentialsFaultError, options: Values) -> str:
        """The reason; the path where nothing is only if it was meant as a path, for sure."""
        text = str(options[fault.key] or "")
        if fault.missing:
            named = text.startswith(("/", "./", "../")) and ":" not in text
            place = fault.missing if named else f"below {os.path.dirname(self._source) or '.'}"
            return f"{fault.reason}: {place}{variable_hint(text)}"
        return f"{fault.reason}{variable_hint(text)}"

    def _resolved(self, path: str | None) -> str | None:
        return None if path is None else self._files.resolve(path)

    def _note_login(self, login: Login, at: Callable[[str], str], files: list[str | None]) -> None:
        if login.notice:
            self._notices.append(f"{at('dockerConfig')}: {login.notice}")
        own = self._origins.get(at("auth"), self._source) == self._source
        if login.source == "auth" and own:
            self._has_inline_password = True
        for file in files:
            if file:
                self._note_open_file(file)

    def _note_open_file(self, path: str) -> None:
        mode = self._files.readable_by_others(path)
        what = "it" if path == self._source else path  # the source stands before a notice
        notice = f"{what} holds a login and others can read it (mode {mode or 0:04o}): chmod 600"
        if mode is not None and notice not in self._notices:
            self._notices.append(notice)

    def _priority(self, value: int, path: str) -> int:
        clamped = min(max(value, 0), PRIORITY_LIMIT)
        if clamped != value:
            limits = f"0 to {PRIORITY_LIMIT}"
            self._notices.append(f"{path}: {value} is outside {limits}; {clamped} is used")
        return clamped

    def _domains(self, options: Values, path: str) -> frozenset[str] | None:
        domains: tuple[str, ...] | None = options["domains"]
        if domains is None:
            return None
        if not domains:
            self._no_empty_list(path)
        return frozenset(domains)

    def _no_empty_list(self, path: str) -> None:
        """None of the items could be used, which is a fault already, or none is there."""
        if not any(fault.path.startswith(path) for fault in self._reader.faults):
            self._reader.faults.note(path, "the list is empty; leave the key out for the default")

    def _authority(self, path: str, key_path: str) -> bytes | None:
        if path not in self._authorities:
            self._authorities[path] = self._authority_or_fault(path)
        found = self._authorities[path]
        if isinstance(found, bytes):
            return found
        self._reader.faults.note(key_path, f"{path}: {found}")
        return None

    def _authority_or_fault(self, path: str) -> bytes | str:
        try:
            content = self._files.read_bytes(path)
        except UnreadableFileError as error:
            return str(error)
        return content if _holds_certificates(content) else "no PEM certificates in it"

    def _each_host_once(self, hub: Registry | None, registries: list[Registry]) -> list[Registry]:
        """The hub, if there is one, and of the others the last one for each host.

        So does the Go shim. What it does not know is not dropped: that is a fault.
        """
        counting = {_host_key(hub): hub} if hub else {}
        for registry in registries:
            before = counting.setdefault(_host_key(registry), registry)
            if before is not registry:
                counting[_host_key(registry)] = self._one_of(before, registry)
        return list(counting.values())

    def _one_of(self, before: Registry, again: Registry) -> Registry:
        """The one that counts, with a login that only the other one has, for the same address."""
        kept, other = (before, again) if before.is_hub else (again, before)
        needs_login = other.credentials is not None and kept.credentials is None
        less_safe = kept.scheme != other.scheme or kept.insecure_skip_verify
        if (needs_login and less_safe) or _options(other) not in {_NO_OPTIONS, _options(kept)}:
            first = "address" if before.is_hub else f"{before.key}.address"
            reason = f"the same registry as in {first}; each host is given once"
            self._reader.faults.note(f"{again.key}.address", reason)
        self._notices.append(f"{other.key} is the same registry as {kept.key}, which counts")
        if not needs_login:
            return kept
        for key in LOGIN_KEYS:
            if origin := self._origins.get(_key_path(other.key, key)):
                self._origins[_key_path(kept.key, key)] = origin
        return replace(
            kept,
            credentials=other.credentials,
            credentials_source=other.credentials_source,
            password_file=other.password_file,
            docker_config=other.docker_config,
        )

    def _sockets(self, values: Values) -> tuple[str, str]:
        shim: str = values["shim"]
        admin: str = values["admin"] or f"{shim}.admin"
        if values["cri"] == shim:
            self._reader.faults.note("cri", "the runtime's socket and the shim's are the same")
        if len(admin.encode()) > SOCKET_PATH_LIMIT_BYTES:
            reason = (
                f"{admin} has more than {SOCKET_PATH_LIMIT_BYTES} bytes; give `admin` another path"
            )
            self._reader.faults.note("shim", reason)
        if admin in {shim, values["cri"]}:
            self._reader.faults.note("admin", "the admin socket needs a path of its own")
        return shim, admin

    def _cache(self, values: Values) -> CacheSettings:
        size: int = values["imageCacheSize"]
        if size > CACHE_LIMIT:
            self._notices.append(f"cache.imageCacheSize: {size}; at most {CACHE_LIMIT} are kept")
        values["imageCacheSize"] = min(max(size, CACHE_OFF), CACHE_LIMIT)
        values["disableStats"] |= not values["statsLogInterval"]
        return CacheSettings(**{key.attribute: values[key.name] for key in CACHE_KEYS})

    def _kubernetes(self, values: Values) -> KubernetesSource:
        given = self._resolved(values["kubeconfig"])
        # KUBECONFIG may list several files, as kubectl reads it; the first one counts here.
        found = given or os.environ.get("KUBECONFIG", "").split(os.pathsep)[0]
        if found and not given:
            self._origins["kubernetes.kubeconfig"] = _ENVIRONMENT
            self._origins.setdefault("kubernetes.enabled", _ENVIRONMENT)
        enabled = bool(found) if values["enabled"] is None else values["enabled"]
        path = found or kubelet_config()
        hosts = ANY_HOST if values["hosts"] is None else Patterns(values["hosts"])
        if not hosts:
            self._no_empty_list("kubernetes.hosts")
        return KubernetesSource(
            enabled, path, values["namespace"], values["name"], hosts, by_default=not found
        )

    def _general_notices(self) -> None:
        if self._reader.old_keys:
            names = ", ".join(self._reader.old_keys)
            self._notices.append(f"old keys, accepted and not used any more: {names}")
        if self._has_inline_password:
            self._note_open_file(self._source)


def kubelet_config() -> str:
    """Where kubelet's own kubeconfig is, or would be first."""
    there = (path for path in KUBELET_CONFIGS if Path(path).exists())
    return next(there, KUBELET_CONFIGS[0])


def _key_path(registry: str, key: str) -> str:
    """The path of a key of the registry at a path."""
    return _AT_TOP[key] if registry == _HUB and key in _AT_TOP else joined(registry, key)


def _options(registry: Registry) -> tuple[object, ...]:
    """What is said of a registry beside the Go shim's keys."""
    mirror = registry.mirror
    return mirror.domains, mirror.path_template, registry.ca_file, registry.insecure_skip_verify


_NO_OPTIONS = _options(Registry.unconfigured("", "", ""))


def _host_key(registry: Registry) -> str:
    """Two registries of one host are one, whatever their schemes: names of images have none."""
    return place_of(registry.scheme, registry.host).partition("://")[2]


def _holds_certificates(pem: bytes) -> bool:
    # Only configurations that name a CA file pay for it.
    from shimcore.tls import client_context  # noqa: PLC0415

    try:
        client_context(pem)
    except (OSError, ValueError):  # ssl.SSLError is an OSError
        return False
    return True
