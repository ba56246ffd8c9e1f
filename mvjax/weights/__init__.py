"""Checkpoints of other frameworks: key names, readers and writers."""
