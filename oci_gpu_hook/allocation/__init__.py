"""Which GPUs a container gets, and the record of who holds which."""
