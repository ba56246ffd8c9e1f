"""Networks: linen modules without I/O, configuration objects or diffusion."""
