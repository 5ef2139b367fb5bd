"""Installs into engines, with one module for each engine."""
