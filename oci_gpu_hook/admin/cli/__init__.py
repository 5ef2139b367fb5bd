"""The command line for people, `oci-gpu COMMAND`, with one module for each command."""
