"""Starts a container under each engine of this host, to see whether it gets its GPUs."""
