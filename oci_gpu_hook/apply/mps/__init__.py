"""Holds containers to their parts of GPUs: a daemon of the driver's Multi-Process Service (MPS) for each of them."""
