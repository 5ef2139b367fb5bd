"""What the host has of Intel."""
