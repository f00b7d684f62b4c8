"""`fleet`: what the pods of the Helm chart run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cli import exits
from cli.help_pages import command_group

NodeOption = Annotated[
    str, typer.Option("--node", envvar="NODE_NAME", metavar="NAME", help="The pod's node.")
]
NamespaceOption = Annotated[
    str,
    typer.Option("--namespace", envvar="POD_NAMESPACE", metavar="NAME", help="Of the objects."),
]
NameOption = Annotated[
    str,
    typer.Option(
        "--name", envvar="FLEET_NAME", metavar="NAME", help="What their names begin with."
    ),
]


def agent(
    node: NodeOption,
    revision: Annotated[
        str,
        typer.Option(
            "--revision", envvar="FLEET_REVISION", metavar="NAME", help="What this pod is for."
        ),
    ],
    namespace: NamespaceOption = "kube-system",
    name: NameOption = "image-cri-shim",
    host: Annotated[
        str, typer.Option("--host", metavar="DIR", help="Where the node's root is mounted.")
    ] = "/host",
    bundle: Annotated[
        str, typer.Option("--bundle", metavar="DIR", help="The bundle to put on the node.")
    ] = "/bundle",
    node_file: Annotated[
        str,
        typer.Option("--node-file", metavar="FILE", help="What the node's file is to be."),
    ] = "/etc/image-cri-shim-fleet/image-cri-shim.yaml",
    run_dir: Annotated[
        str, typer.Option("--run-dir", metavar="DIR", help="Where the file `ready` is written.")
    ] = "/run/fleet",
) -> None:
    """Bring this pod's node to what the chart says, and keep it there.

    Waits for a slot, has the node switch by itself, outside of the pod, and says how that went: in
    the node's labels, an Event, and the pod's termination message. Until SIGTERM.
    """
    import asyncio  # noqa: PLC0415 - a fast --help

    from shimcore.fleet.running import run_agent  # noqa: PLC0415 - as above

    places = Path(host), Path(bundle), Path(node_file), Path(run_dir)
    with exits.reported():
        asyncio.run(run_agent(node, revision, namespace, name, *places))


def remove(
    namespace: NamespaceOption = "kube-system",
    name: NameOption = "image-cri-shim",
    wait: Annotated[
        bool, typer.Option("--wait", help="Until every node is as it was before.")
    ] = False,
) -> None:
    """Have every node put back as it was before, a few at a time.

    Exit status: 0 asked for, and with --wait done; 1 not, or halted on the way.
    """
    import asyncio  # noqa: PLC0415 - a fast --help

    from shimcore.fleet.running import run_removal  # noqa: PLC0415 - as above

    with exits.reported():
        asyncio.run(run_removal(namespace, name, wait=wait))


group = command_group(
    "Switch the nodes of a cluster, as the pods of the Helm chart do.", agent, remove
)
