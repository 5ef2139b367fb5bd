"""What the host has of AMD."""
