"""The door of people: `oci-gpu COMMAND`, a module a command."""
