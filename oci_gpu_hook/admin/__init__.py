"""What administrators run, and what it is made of: commands, checks, installation, the simulated host."""
