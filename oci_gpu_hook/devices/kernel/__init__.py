"""Devices that the kernel itself describes, in the form in which CDI specifications describe devices."""
