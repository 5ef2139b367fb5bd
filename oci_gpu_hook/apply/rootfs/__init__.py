"""The container's file system. No other code takes paths that an image controls."""
