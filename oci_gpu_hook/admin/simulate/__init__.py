"""`oci-gpu simulate`: a host with NVIDIA GPUs for those who have none. Tests use `simulate.host.make`."""
