"""Switching the nodes of a cluster, a few at a time: what runs in the DaemonSet's pods.

`slots` and `steps` decide and do no I/O; `agent` is the loop that asks the API server, has the
node's own switch run, and reports. The switch itself is not here: it runs outside the pod.
"""
