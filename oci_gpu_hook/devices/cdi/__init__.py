"""Devices that CDI specification files describe, of any vendor: reading, checking, precedence."""
