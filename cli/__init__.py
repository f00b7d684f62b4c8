"""The Typer app: one file a command."""
