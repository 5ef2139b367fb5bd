"""Reads specification files: text, fields, rules, directories. No container's start imports this."""
