"""Unit files and the wiring of kubelet."""
