"""The configuration that is written where there is none. Pure."""

from __future__ import annotations

from shimcore.systemd.yamltext import scalar

_TEMPLATE = """\
# Configuration of image-cri-shim. Keep it readable by root alone: it holds passwords.

# The registry to look in first. Required; without http:// it is https.
# address: http://sealos.hub:5000
address:

# Its login, user:password.
# auth: admin:passw0rd

# The socket that kubelet talks to.
shim: {shim}

# The container runtime's socket; when absent it is looked for.
{cri}

# More registries, best priority first.
# registries:
#   - address: https://registry.example:5000
#     auth: user:password
#     priority: 500

# Whether the original name may be pulled where no registry has the image: allow or deny.
# fallback: allow
"""


def template(shim_socket: str, runtime_endpoint: str | None) -> str:
    """The configuration with `address` still to be filled in."""
    if runtime_endpoint is None:
        cri = "# cri: unix:///run/containerd/containerd.sock"
    else:
        cri = f"cri: {scalar(runtime_endpoint)}"
    return _TEMPLATE.format(shim=scalar(shim_socket), cri=cri)
