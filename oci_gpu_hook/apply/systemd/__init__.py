"""Systemd units that restrict devices, and how systemd is told that a container may use its GPUs."""
