"""Examples of every command, as its help page shows them; a test reads each as a command line."""

from __future__ import annotations

EXAMPLES: dict[str, tuple[str, ...]] = {
    "": (
        "image-cri-shim demo",
        "image-cri-shim config init /etc/image-cri-shim.yaml",
        "image-cri-shim resolve nginx:latest",
    ),
    "serve": (
        "image-cri-shim serve",
        "image-cri-shim serve -f ./shim.yaml --dry-run",
    ),
    "resolve": (
        "image-cri-shim resolve nginx quay.io/org/app:v1",
        "image-cri-shim resolve nginx -o json",
        "image-cri-shim resolve --offline nginx",
    ),
    "check-registry": (
        "image-cri-shim check-registry",
        "image-cri-shim check-registry http://sealos.hub:5000",
    ),
    "status": (
        "image-cri-shim status",
        "image-cri-shim status --watch",
    ),
    "doctor": (
        "image-cri-shim doctor",
        "image-cri-shim doctor --pull nginx:latest",
        "image-cri-shim doctor -o json",
    ),
    "history": (
        "image-cri-shim history --failed",
        "image-cri-shim history --follow",
        "image-cri-shim history --pod default/web-0 -o json",
    ),
    "pull": (
        "image-cri-shim pull nginx redis:7",
        "image-cri-shim pull --list images.txt --jobs 5",
        "image-cri-shim pull --list images.txt --jitter 20m",
    ),
    "config": (
        "image-cri-shim config show",
        "image-cri-shim config check ./shim.yaml",
    ),
    "config show": (
        "image-cri-shim config show",
        "image-cri-shim config show -f ./shim.yaml",
    ),
    "config check": (
        "image-cri-shim config check",
        "image-cri-shim config check ./configmap.yaml",
    ),
    "config init": (
        "image-cri-shim config init",
        "image-cri-shim config init /etc/image-cri-shim.yaml",
    ),
    "config schema": ("image-cri-shim config schema > image-cri-shim.schema.json",),
    "install-service": (
        "image-cri-shim install-service --wire-kubelet --now",
        "image-cri-shim install-service --wire-kubelet --dry-run",
    ),
    "hand-over": (
        "image-cri-shim hand-over",
        "image-cri-shim hand-over --or-restart",
    ),
    "uninstall-service": ("image-cri-shim uninstall-service --now",),
    "switch": ("image-cri-shim switch status",),
    "switch run": ("image-cri-shim switch run",),
    "switch status": (
        "image-cri-shim switch status",
        "image-cri-shim switch status -o json",
    ),
    "fleet": ("image-cri-shim fleet remove --wait",),
    "fleet agent": ("image-cri-shim fleet agent --node n1 --revision 3f2a91bc",),
    "fleet remove": ("image-cri-shim fleet remove --wait",),
    "demo": ("image-cri-shim demo",),
    "completions": ("image-cri-shim completions bash > /etc/bash_completion.d/image-cri-shim",),
    "help": (
        "image-cri-shim help resolve",
        "image-cri-shim help config show",
    ),
    "version": ("image-cri-shim version -o json",),
}
"""By command, the words that follow the program's name."""
