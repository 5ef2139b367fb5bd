"""NVIDIA's room: GPUs, MIG devices, driver files. It reads the host, and writes only its stored inventory."""
