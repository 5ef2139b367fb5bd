"""What the host has: devices, and the edits that bring them into a container. A room for each source."""
