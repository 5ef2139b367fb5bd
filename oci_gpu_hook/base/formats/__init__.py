"""File formats: ELF, the loader's cache."""
