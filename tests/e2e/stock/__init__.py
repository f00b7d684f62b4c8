"""Nodes as they come from the distribution, set up by the steps of the documents."""
