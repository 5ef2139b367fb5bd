"""CDI specification files of any vendor: reading, checking, precedence."""
