"""What every room builds on. Nothing here knows of containers or GPUs."""
