"""The switch of a node to another version: journaled, watched, and undone unless it is well."""
