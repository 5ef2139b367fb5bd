"""The journal: records what is done to each container before it is done."""
