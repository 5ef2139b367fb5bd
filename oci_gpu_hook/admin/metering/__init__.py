"""Looks at the use of the host's devices, and gives it out as metrics."""
