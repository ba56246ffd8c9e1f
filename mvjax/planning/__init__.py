"""What a run will need of a TPU topology, from its compiler alone."""
