"""A kubelet in the way that kubeadm sets it up, played by a script."""

from __future__ import annotations

CONTAINERD = "unix:///run/containerd/containerd.sock"
KUBELET = """\
#!/bin/sh
# Plays kubelet: says what it was started with, and stays.
echo "$@"
grep Endpoint /var/lib/kubelet/config.yaml
exec sleep infinity
"""
FILES = {
    "/usr/lib/systemd/system/kubelet.service": (
        "[Service]\nExecStart=/usr/local/bin/kubelet\n[Install]\nWantedBy=multi-user.target\n"
    ),
    "/usr/lib/systemd/system/kubelet.service.d/10-kubeadm.conf": (
        '[Service]\nEnvironment="KUBELET_CONFIG_ARGS=--config=/var/lib/kubelet/config.yaml"\n'
        "EnvironmentFile=-/var/lib/kubelet/kubeadm-flags.env\n"
        "EnvironmentFile=-/etc/default/kubelet\nExecStart=\n"
        "ExecStart=/usr/local/bin/kubelet $KUBELET_CONFIG_ARGS $KUBELET_KUBEADM_ARGS "
        "$KUBELET_EXTRA_ARGS\n"
    ),
    "/var/lib/kubelet/config.yaml": (
        "apiVersion: kubelet.config.k8s.io/v1beta1 # kept\nkind: KubeletConfiguration\n"
        'containerRuntimeEndpoint: ""\n'
    ),
    "/var/lib/kubelet/kubeadm-flags.env": (
        f'KUBELET_KUBEADM_ARGS="--container-runtime-endpoint={CONTAINERD} --v=2"\n'
    ),
    "/etc/crictl.yaml": f"runtime-endpoint: {CONTAINERD} # kept\ntimeout: 10\n",
}
