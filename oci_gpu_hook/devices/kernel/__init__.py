"""Devices that the kernel itself tells of, in the form in which CDI specifications describe devices."""
