"""NVIDIA's words of asking: its variables, mounts and names of devices, meant as its own tools mean them."""
