"""Writes this host's devices as CDI specification files, and keeps these up to date."""
