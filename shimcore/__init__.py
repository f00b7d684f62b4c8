"""The core that every command of image-cri-shim shares."""

__version__ = "1.0.0"
