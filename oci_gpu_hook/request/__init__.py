"""Turns a container's annotations, mounts and environment into one Request, or none. Pure."""
