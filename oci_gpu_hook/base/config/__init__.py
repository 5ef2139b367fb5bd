"""The configuration, /etc/oci-gpu-hook/config.toml."""
