"""Client of container registries: is an image there, and is the registry itself well?

One file for each step of the protocol (distribution-spec): `challenge`, `token`, `auth`,
`manifest`, `ping` over `transport`; `health` and `flight` keep the questions cheap.
Proxies: HTTP_PROXY, HTTPS_PROXY and NO_PROXY are honoured by containerd's rules (`proxy`).
"""

from shimcore.registry.answers import ManifestAnswer, Outcome, PingReport, TlsReport
from shimcore.registry.client import RegistryClient

__all__ = ["ManifestAnswer", "Outcome", "PingReport", "RegistryClient", "TlsReport"]
