"""TFDS data set `latents`: renders after an autoencoder."""
