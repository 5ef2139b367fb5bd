"""This host's devices as CDI specification files: making them, and keeping them true."""
