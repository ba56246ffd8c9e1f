"""Measurements of what was sampled: features, metrics, tables."""
