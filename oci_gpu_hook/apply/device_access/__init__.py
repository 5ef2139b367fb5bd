"""Which devices a container's processes may open: the device cgroup, versions 1 and 2."""
