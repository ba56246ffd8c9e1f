"""The TFDS data set `renders`: one record for every (object, look)."""
