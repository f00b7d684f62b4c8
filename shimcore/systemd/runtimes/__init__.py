"""The runtime's own way to the configured registries: found, and written."""
