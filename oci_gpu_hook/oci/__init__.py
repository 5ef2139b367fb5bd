"""The engine's input as values: the OCI state, the bundle's config.json, facts of an image, pods."""
