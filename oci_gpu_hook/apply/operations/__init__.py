"""The kinds of edits that are made to a container, one module for each."""
