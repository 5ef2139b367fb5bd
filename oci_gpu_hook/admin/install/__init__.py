"""Installs the executables that engines start, and what they need."""
