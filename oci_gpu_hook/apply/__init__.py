"""Changing the container: its rootfs by descriptor, its device cgroup, its ld cache. Effects live here."""
