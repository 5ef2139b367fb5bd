"""What the host has: devices, and the edits that give them to a container. A room for each vendor."""
