"""OCI runtime hook that gives containers the NVIDIA GPUs they ask for."""

__version__ = "0.1.0"
