"""What the engine hands over: the OCI state, the bundle's config.json, and edits of that file."""
