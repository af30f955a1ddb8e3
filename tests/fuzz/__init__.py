"""Mutated requests at a live door, mutated records at a live worker: `make fuzz`, and a little of it in `make test`."""
