"""What the host has: GPUs, MIG devices, driver files. Reads the host; changes nothing but its own cache."""
