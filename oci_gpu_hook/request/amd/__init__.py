"""AMD's words, by which containers ask for its devices."""
