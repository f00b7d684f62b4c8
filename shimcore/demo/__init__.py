"""The embedded parts of `demo`."""
