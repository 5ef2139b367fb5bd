"""A container's way: it starts and gets its GPUs, runs and is looked after, ends and gives them back."""
