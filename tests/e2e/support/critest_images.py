"""The images that critest pulls, made here: the same names, and what its specs do with them."""

from __future__ import annotations

import functools
import subprocess

from .containerd import LIBRARY
from .images import BUSYBOX, Entry, Image, Pusher, build

# Setuid root in its image; .ci/install builds it.
NO_NEW_PRIVILEGES = LIBRARY / "nonewprivs"
# Where the specs find them on the Internet.
HOSTS = ("gcr.io", "registry.k8s.io", "k8s.gcr.io")

STAGING = "k8s-staging-cri-tools"
E2E = "e2e-test-images"

PASSWD = """\
root:x:0:0:root:/root:/bin/sh
www-data:x:33:33:www-data:/var/www:/bin/sh
default-user:x:1000:1000:default-user:/:/bin/sh
nobody:x:65534:65534:nobody:/:/bin/sh
"""
GROUP = """\
root:x:0:
www-data:x:33:
default-user:x:1000:
group-defined-in-image:x:50000:default-user
nobody:x:65534:
"""
# Applets of upstream's busybox that Debian's lacks, as far as the specs use them.
PGREP = '#!/bin/sh\nexec pidof "$@"\n'
IPCS = "#!/bin/sh\nexec cat /proc/sysvipc/shm\n"

# The specs look for a process `nginx`, its pid file, and `master process` among its arguments.
NGINX = (
    "echo $$ >/var/run/nginx.pid; "
    "exec -a busybox /bin/nginx httpd -f -p PORT -h /www -r 'nginx: master process'"
)


def push_all(pusher: Pusher) -> None:
    """Everything that a spec asks for, but for the image with a fixed digest."""
    for name, image in _images().items():
        repository, _, tag = name.partition(":")
        pusher.push(image, repository, tag or "latest")


def sandbox() -> Image:
    """Pods' pause image, whose process is none that a spec looks for in its pod."""
    return _toolbox("sandbox", Entrypoint=["/bin/tail", "-f", "/dev/null"])


@functools.cache
def _images() -> dict[str, Image]:
    """Repository (and tag, if not `latest`) → image."""
    images = {
        f"{E2E}/busybox:1.29-2": _toolbox("busybox"),
        f"{E2E}/httpd:2.4.39-4": _web("echo httpd; exec httpd -f -h /www"),
        f"{E2E}/nginx:1.14-2": _web(NGINX.replace("PORT", "80")),
        f"{E2E}/nonewprivs:1.3": _no_new_privileges(),
        "pause:3.9": _toolbox("pause", Entrypoint=["/bin/sleep", "2147483647"]),
        f"{STAGING}/hostnet-nginx-amd64": _web(NGINX.replace("PORT", "12003")),
        f"{STAGING}/test-image-predefined-group": _toolbox("group", User="1000"),
    }
    for name in ("latest", "1", "2", "3"):
        images[f"{STAGING}/test-image-{name}"] = _toolbox(f"test-image-{name}")
    for tag in ("test", "all"):
        images[f"{STAGING}/test-image-tag:{tag}"] = _toolbox(tag)
    for tag in ("1", "2", "3"):
        images[f"{STAGING}/test-image-tags:{tag}"] = _toolbox("same-image")
    users = {
        "uid": "1002",
        "username": "www-data",
        "uid-group": "1003:1004",
        "username-group": "www-data:1004",
    }
    for name, user in users.items():
        images[f"{STAGING}/test-image-user-{name}"] = _toolbox(name, User=user)
    return images


def _toolbox(marker: str, *layers: list[Entry], **config: object) -> Image:
    """busybox with all its applets and the specs' users; `marker` sets its digest apart."""
    config = {"Cmd": ["sh"], "Env": ["PATH=/bin"], **config}
    return build([_busybox_files(), [Entry("marker", marker.encode())], *layers], **config)


def _busybox_files() -> list[Entry]:
    listed = subprocess.run([BUSYBOX, "--list"], capture_output=True, text=True, check=True)
    links = [
        Entry(f"bin/{applet}", link="busybox", mode=0o777)
        for applet in listed.stdout.split()
        if applet != "busybox"
    ]
    return [
        Entry("bin/busybox", BUSYBOX.read_bytes(), 0o755),
        *links,
        Entry("bin/pgrep", PGREP.encode(), 0o755),
        Entry("bin/ipcs", IPCS.encode(), 0o755),
        Entry("etc/passwd", PASSWD.encode()),
        Entry("etc/group", GROUP.encode()),
        *(Entry(f"{folder}/.keep") for folder in ("tmp", "var/run")),
    ]


def _web(script: str) -> Image:
    """A web server whose main page is there; `nginx` is a file of its own to be found by name."""
    files = [
        Entry("bin/nginx", BUSYBOX.read_bytes(), 0o755),
        Entry("www/index.html", b"<p>It works.</p>\n"),
    ]
    return _toolbox("web", files, Entrypoint=["/bin/sh", "-c", script])


def _no_new_privileges() -> Image:
    program = Entry("nonewprivs", NO_NEW_PRIVILEGES.read_bytes(), 0o4755)
    return build([[program]], Entrypoint=["/nonewprivs"])
