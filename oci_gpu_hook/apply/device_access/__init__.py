"""Controls which devices a container's processes may open, by the device cgroup, versions 1 and 2."""
