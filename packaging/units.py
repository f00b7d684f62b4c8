"""Writes the units and the configuration's template as the packages hold them.

`python units.py DIR`: into DIR/units and DIR/image-cri-shim.yaml. The units are those of
contrib/systemd/ for the packages' command, and start nothing before there is a configuration.
"""

from __future__ import annotations

import sys
from pathlib import Path

from shimcore.systemd.units import (
    BYPASS,
    SERVICE,
    SOCKET,
    UnitSettings,
    bypass_text,
    service_text,
    socket_text,
    template,
    waiting,
)

COMMAND = "/usr/bin/image-cri-shim"


def write(folder: Path) -> None:
    """Write all four."""
    settings = UnitSettings(command=COMMAND)
    for name, text in ((SERVICE, service_text(settings)), (SOCKET, socket_text(settings))):
        (folder / "units" / name).write_text(waiting(text, settings.config_file))
    (folder / "units" / BYPASS).write_text(bypass_text())
    (folder / "image-cri-shim.yaml").write_text(template(None))


if __name__ == "__main__":
    write(Path(sys.argv[1]))
