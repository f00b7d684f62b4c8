"""The shim between real processes while everything around it fails: `make soak`.

Load with unique ids runs all the time; one fault after the other is done to the shim, the
runtime or the registry. `python -m tests.soak --seconds 600` prints the counts at its end.
"""
