"""The CPU compiler as users of launch.py have it makes no wrong code.

jaxlib 0.10.2 fails both programs; whoever moves the pin runs this tier.
"""

import os
import subprocess
import sys

import jax

# https://github.com/jax-ml/jax/issues/39103: rows beyond 2**15 were wrong.
ROWS = """
import jax, jax.numpy as jnp, numpy as np

random = np.random.default_rng(0)
matrix = random.normal(size=(3, 3)).astype(np.float32)
norms = jax.jit(jax.vmap(lambda x: jnp.sum((matrix @ x) ** 2)))
for count in (30_000, 33_000, 36_864, 44_000):
  rows = random.normal(size=(count, 3)).astype(np.float32)
  expected = np.square(rows.astype(np.float64) @ matrix.T).sum(-1)
  np.testing.assert_allclose(norms(rows), expected, rtol=1e-4, atol=1e-6)
"""
# https://github.com/jax-ml/jax/issues/40412: the process died.
RANK_7 = """
import jax, jax.numpy as jnp, numpy as np

a, b = np.random.default_rng(0).normal(size=(2, 3, 1, 2, 2, 8, 8, 8))
a, b = a.astype(np.float32), b.astype(np.float32)
found = jax.jit(lambda a, b: jnp.sum(a * b, axis=3))(a, b)
np.testing.assert_allclose(found, (a * b).sum(3), rtol=1e-5, atol=1e-5)
"""


def run(program):
  subprocess.run([sys.executable, "-c", program], check=True, timeout=120)


def test_this_tier_compiles_as_users_do():
  """Other tests have other flags; run this one by `make test-default-flags`."""
  assert not jax.config.values["jax_disable_most_optimizations"]
  assert "use_fusion_emitters" not in os.environ.get("XLA_FLAGS", "")


def test_every_row_of_many_is_right():
  run(ROWS)


def test_arrays_of_seven_axes_are_reduced():
  run(RANK_7)
