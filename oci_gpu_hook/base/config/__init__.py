"""The configuration, /etc/oci-gpu-hook/config.toml: `load` returns it as one value, defined in `model`."""
