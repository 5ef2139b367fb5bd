"""The life of a container: its start, the repair of what it loses while it runs, and its end."""
