"""Reading specification files: text, fields, rules, directories. Not on a container's way."""
