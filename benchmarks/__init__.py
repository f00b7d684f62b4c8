"""How fast the shim is, beside what else could stand there."""
