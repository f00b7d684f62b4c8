"""The cluster's part of the configuration: watched, merged over the node's file, and kept.

Nothing is imported here: a node without such a part does not load what reads and watches it.
"""
