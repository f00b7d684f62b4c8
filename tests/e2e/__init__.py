"""End-to-end tests on a real containerd, docker-registry and crictl."""
