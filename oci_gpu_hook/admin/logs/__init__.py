"""Reads what was logged of starts and refusals: the file of config.toml, and the host's log."""
