"""containerd's registry configuration: what it says, and how containerd reaches a registry by it.

Pure but for the files that are read through `settings.Files`.
"""
