"""The cluster's documents over the node's file: each key from the last one that may say it.

A document changes what the file leaves to it, and of the rest it may only tighten. What somebody
says of a registry (login, TLS, paths) is for the address beside it, or for an equal one elsewhere:
scheme, host and port. Whoever changes an address gets nothing that was written for the one before.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from shimcore.config.document import Tree, list_of, mapping_of
from shimcore.config.keys import LOGIN_KEYS
from shimcore.config.model import Config, Fallback, LoneLogin
from shimcore.config.overlay import Merged
from shimcore.config.provenance import leaves
from shimcore.config.reading import is_empty
from shimcore.config.values import Address, address, place_of
from shimcore.reference import Mirror, is_well_known, normalised_host, serves

_REGISTRIES = {"address", "auth", "hub", "registries"}
_BY_THEMSELVES = {*_REGISTRIES, "exclude", "fallback", "cache"}

_LOOSER = "somebody before it says deny"
_LETS_OUT = "the node's file says fallback: deny, and excluded names would go out"

_NOT_ALLOWED = "kubernetes.hosts of the node's file does not allow the host"
_MORE_DOMAINS = "more domains than the registry serves without it"

_Given = dict[str, tuple[Tree, str]]
"""Values by key, each with its origin."""
_SHOWN_PATHS = 8


@dataclass(frozen=True, slots=True)
class Layer:
    """What one document says, before it is read."""

    tree: dict[str, Tree] = field(repr=False)  # it has passwords
    origin: str
    notices: tuple[str, ...] = ()
    lone_logins: tuple[LoneLogin, ...] = ()


class Ignored:
    """Keys that do not count, told as one line for each document and reason."""

    def __init__(self) -> None:
        self._paths: dict[tuple[str, str], list[str]] = {}

    def note(self, origin: str, path: str, reason: str) -> None:
        """Note one key."""
        self._paths.setdefault((origin, reason), []).append(path)

    def lines(self) -> list[str]:
        """The lines; of many paths the first few."""
        return [
            f"{origin}: {_some(paths)}: ignored: {reason}"
            for (origin, reason), paths in self._paths.items()
        ]


def _some(paths: list[str]) -> str:
    more = f" and {len(paths) - _SHOWN_PATHS} more" if len(paths) > _SHOWN_PATHS else ""
    return ", ".join(paths[:_SHOWN_PATHS]) + more


def merged(tree: Mapping[str, Tree], own: Config, layers: Sequence[Layer]) -> Merged:
    """`layers`, the later one wins, over the file's `tree`, which by itself is `own`."""
    notes = Ignored()
    values = _Values(tree, own, notes)
    for layer in layers:
        values.merge(layer)
    registries = _Registries(tree, own, layers, notes).merged()
    given = [note for layer in layers for note in layer.notices]
    lone = tuple(login for layer in layers for login in layer.lone_logins)
    return Merged(
        {**values.tree, **registries.tree},
        {**values.origins, **registries.origins},
        (*given, *notes.lines(), *registries.notices),
        lone,
    )


class _Values:
    """Everything but the registries."""

    def __init__(self, tree: Mapping[str, Tree], own: Config, notes: Ignored) -> None:
        self._file_denies = self._is_deny = own.fallback is Fallback.DENY
        self._notes = notes
        self.tree = {name: value for name, value in tree.items() if name not in _REGISTRIES}
        self.origins = dict.fromkeys(leaves(self.tree, ""), own.source)

    def merge(self, layer: Layer) -> None:
        """One layer over what is there."""
        for name, value in layer.tree.items():
            if name not in _BY_THEMSELVES and not is_empty(value):
                self._put(name, value, layer)
        self._cache(layer)
        self._exclude(layer)
        self._fallback(layer)

    def _put(self, name: str, value: Tree, layer: Layer) -> None:
        self.tree[name] = value
        self.origins[name] = layer.origin

    def _cache(self, layer: Layer) -> None:
        above = mapping_of(layer.tree.get("cache"))
        given = {key: value for key, value in above.items() if not is_empty(value)}
        self.tree["cache"] = {**mapping_of(self.tree.get("cache")), **given}
        self.origins.update({f"cache.{key}": layer.origin for key in given})

    def _exclude(self, layer: Layer) -> None:
        above = list_of(layer.tree.get("exclude"))
        if not above:
            return
        if self._file_denies:
            self._notes.note(layer.origin, "exclude", _LETS_OUT)
            return
        texts = [*list_of(self.tree.get("exclude")), *above]
        all_of_them: list[Tree] = list(
            dict.fromkeys(text for text in texts if isinstance(text, str))
        )
        self._put("exclude", all_of_them, layer)

    def _fallback(self, layer: Layer) -> None:
        wanted = layer.tree.get("fallback")
        if not isinstance(wanted, str) or is_empty(wanted):
            return
        if wanted.strip() == Fallback.DENY:
            self._put("fallback", wanted, layer)
            self._is_deny = True
        elif self._is_deny:
            self._notes.note(layer.origin, "fallback", _LOOSER)


@dataclass(slots=True)
class _Entry:
    """One registry as given; what is given of it is for `address`."""

    address: Address
    given: _Given = field(repr=False)
    path: str
    """Key path in its document; empty for the hub."""

    @property
    def is_hub(self) -> bool:
        """Whether it is its document's hub."""
        return not self.path

    def fill(self, below: _Given) -> None:
        """Take what is not given yet."""
        self.given = {**below, **self.given}


class _Registries:
    """The file's registries, and each document's over them."""

    def __init__(
        self, tree: Mapping[str, Tree], own: Config, layers: Sequence[Layer], notes: Ignored
    ) -> None:
        self._own = own
        self._notes = notes
        self._notices: list[str] = []
        self._file = _entries(tree, own.source, tree.get("hub"))
        self._below = {one.address.place: one.given for one in self._file}
        self._above = [self._allowed(layer) for layer in layers]
        # By address, the login that is beside it: the last document's that has one.
        self._logins = {
            one.address.place: login
            for document in (self._file, *self._above)
            for one in document
            if (login := _login(one.given))
        }
        self._domains = {
            place_of(one.scheme, one.host): one.mirror.domains for one in own.registries
        }

    def merged(self) -> Merged:
        """`address`, `auth`, `hub` and `registries` of all together."""
        tree: dict[str, Tree] = {}
        origins: dict[str, str] = {}
        hub = self._hub()
        if hub is not None:
            above = {key: one for key, one in hub.given.items() if key in {"address", "auth"}}
            options = {key: one for key, one in hub.given.items() if key not in above}
            _put(above, tree, "", origins)
            tree["hub"] = _put(options, {}, "hub.", origins)
        listed: list[Tree] = []
        for entry in self._joined() or [one for one in self._file if not one.is_hub]:
            self._complete(entry)
            listed.append(_put(entry.given, {}, f"registries[{len(listed)}].", origins))
        tree["registries"] = listed
        return Merged(tree, origins, tuple(self._notices))

    def _allowed(self, layer: Layer) -> list[_Entry]:
        """A document's hub and registries, those that the file lets it name."""
        entries = _entries(layer.tree, layer.origin, None)
        return [entry for entry in entries if self._is_allowed(entry, layer)]

    def _is_allowed(self, entry: _Entry, layer: Layer) -> bool:
        if self._own.kubernetes.hosts.first((entry.address.plain_host,)) is not None:
            return True
        path = "address" if entry.is_hub else f"{entry.path}.address"
        self._notes.note(layer.origin, path, _NOT_ALLOWED)
        return False

    def _complete(self, entry: _Entry) -> None:
        """Add what the file says of the same address, and the login that counts for it."""
        entry.fill(self._below.get(entry.address.place, {}))
        options = {key: one for key, one in entry.given.items() if key not in LOGIN_KEYS}
        entry.given = {**options, **self._logins.get(entry.address.place, {})}

    def _hub(self) -> _Entry | None:
        hubs = [one for document in (self._file, *self._above) for one in document if one.is_hub]
        if not hubs:
            return None
        hub = hubs[-1]
        if self._file and self._file[0].is_hub:
            self._note_loss(self._file[0], hub)
        self._complete(hub)
        hub.given.pop("priority", None)
        return hub

    def _note_loss(self, before: _Entry, hub: _Entry) -> None:
        """Say what the file has for its hub, `before`, and another one does not get."""
        if before.address.place == hub.address.place:
            return
        lost = [key if key == "auth" else f"hub.{key}" for key in before.given if key != "address"]
        if lost:
            origin = hub.given["address"][1]
            names = " and ".join(lost)
            self._notices.append(
                f"{origin} names another hub: {names} of the one before do not count for it"
            )

    def _joined(self) -> list[_Entry]:
        """The cluster's registries, the last document's first.

        A host that several documents name is the last one's, with what that leaves open from
        those that give it the same address.
        """
        joined: list[_Entry] = []
        by_host: dict[str, _Entry] = {}
        for document in reversed(self._above):
            new: dict[str, _Entry] = {}
            for entry in document:
                if entry.is_hub:
                    continue
                self._narrow(entry)
                upper = by_host.get(entry.address.plain_host)
                if upper is None:
                    joined.append(entry)
                    new[entry.address.plain_host] = entry
                elif upper.address.place == entry.address.place:
                    upper.fill(entry.given)
            by_host |= new
        return joined

    def _narrow(self, entry: _Entry) -> None:
        """Take away the domains that the registry does not serve without the document."""
        wanted, origin = entry.given.get("domains", (None, ""))
        if not isinstance(wanted, list):
            return
        kept: list[Tree] = [
            one for one in wanted if isinstance(one, str) and self._serves(entry.address, one)
        ]
        if len(kept) < len(wanted):
            self._notes.note(origin, f"{entry.path}.domains", _MORE_DOMAINS)
        if kept:
            entry.given["domains"] = (kept, origin)
        else:
            del entry.given["domains"]

    def _serves(self, registry: Address, pattern: str) -> bool:
        """Whether the registry serves, by the file alone, all domains that a pattern matches."""
        domains = self._domains.get(registry.place)
        if domains is not None:
            # A `*` there stands for any text, and so for a `*` here as well.
            return serves(Mirror(registry.host, domains=domains), pattern)
        own_only = is_well_known(registry.host)
        return not own_only or normalised_host(pattern) == normalised_host(registry.host)


def _entries(tree: Mapping[str, Tree], origin: str, options: Tree) -> list[_Entry]:
    """The hub, if it has an address, then the registries that have one."""
    at_top = {name: tree.get(name) for name in ("address", "auth")}
    hub = _entry({**mapping_of(options), **at_top}, origin, "")
    further = (
        _entry(one, origin, f"registries[{number}]")
        for number, one in enumerate(list_of(tree.get("registries")))
        if isinstance(one, dict)
    )
    return [entry for entry in (hub, *further) if entry is not None]


def _entry(tree: Mapping[str, Tree], origin: str, path: str) -> _Entry | None:
    named = tree.get("address")
    if not isinstance(named, str) or is_empty(named):
        return None
    given = {key: (value, origin) for key, value in tree.items() if not is_empty(value)}
    return _Entry(address(named.strip()), given, path)


def _login(given: _Given) -> _Given:
    return {key: given[key] for key in LOGIN_KEYS if key in given}


def _put(
    given: _Given, tree: dict[str, Tree], path: str, origins: dict[str, str]
) -> dict[str, Tree]:
    """Write values into a tree, and their origins beside it."""
    for key, (value, origin) in given.items():
        tree[key] = value
        origins[path + key] = origin
    return tree
