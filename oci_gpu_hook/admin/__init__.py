"""The commands that administrators run, and their parts: checks, installation, the simulated host."""
