"""Where the configuration is when the command line does not say. Imports nothing."""

from __future__ import annotations

DEFAULT_FILE = "/etc/image-cri-shim.yaml"
CONFIG_VARIABLE = "IMAGE_CRI_SHIM_CONFIG"
