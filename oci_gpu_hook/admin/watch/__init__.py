"""The watch over running containers and the host's GPUs: what `oci-gpu watch` does until it is told to end."""
