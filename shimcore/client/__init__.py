"""Clients of the running shim: its admin service, and pulls through its socket as kubelet does."""
