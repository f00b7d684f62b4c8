"""The embedded parts of `demo`, used by integration tests too."""
