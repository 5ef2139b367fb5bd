"""Installs the executables that engines start."""
