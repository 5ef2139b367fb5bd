"""Systemd units that restrict devices, and the drop-ins that let a container keep its GPUs."""
