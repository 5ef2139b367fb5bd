"""Chooses the GPUs that a container gets, and records who holds which."""
