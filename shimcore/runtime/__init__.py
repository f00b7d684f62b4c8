"""The container runtime, asked by the shim itself: its CRI calls, its image store, its socket.

Only `client` and what it stands on import grpc, which takes 100 ms.
"""
