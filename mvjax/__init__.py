"""Consistent views of one object from a text, by joint inference in JAX.

A multi-view model and a plain text-to-image model are asked at every
denoising step and their scores are mixed. Read `scores` and `sampling` first:
they are the method. `nn` holds the networks, `models` turns weights into
score functions, and nothing imports upwards from there.
"""

__version__ = "0.1.0"
