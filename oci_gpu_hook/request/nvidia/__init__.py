"""NVIDIA's words: its variables, mounts and names of devices, read as NVIDIA's own tools read them."""
