"""Objects to renders to records to batches."""
