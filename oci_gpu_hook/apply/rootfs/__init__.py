"""The container's file system. Nothing else takes paths that an image may have laid traps in."""
