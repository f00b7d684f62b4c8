"""The core that every command of image-cri-shim shares."""

__version__ = "0.1.0"
