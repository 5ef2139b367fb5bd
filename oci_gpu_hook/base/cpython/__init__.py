"""What leans on CPython's inside to start faster; without it everything works, slower."""
