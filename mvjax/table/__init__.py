"""Methods side by side: sampled where missing, scored, written as a table."""
