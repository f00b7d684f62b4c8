"""Messages generated from protos/ by `make protos`; never edited."""
