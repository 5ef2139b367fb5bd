"""What the container asks for: from annotations, mounts and environment to one Request, or nothing. Pure."""
