"""Looks at the use of the host's devices."""
