"""The journal: what was done to each container, written before it is done."""
