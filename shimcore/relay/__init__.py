"""HTTP/2 between one client connection and its own upstream connection."""
