"""Changes the container: its rootfs by descriptors, its device cgroup, its ld cache."""
