"""Processes, images and clients of the end-to-end tests."""
