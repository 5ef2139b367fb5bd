"""The command line for people, `oci-gpu COMMAND`: a module a command."""
