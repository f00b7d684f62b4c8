"""What `serve` runs."""
