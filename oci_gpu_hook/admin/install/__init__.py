"""Laying the executables that engines start."""
