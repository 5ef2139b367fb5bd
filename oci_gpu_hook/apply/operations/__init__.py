"""What is done to a container, a module for each kind of edit."""
