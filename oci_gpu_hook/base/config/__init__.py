"""The configuration, /etc/oci-gpu-hook/config.toml: `load` gives it as one value of `model`."""
