"""Training: state, step, loop, checkpoints, and one file per task."""
