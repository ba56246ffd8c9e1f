"""Parts of the diffusion loss with known values."""

import jax
import jax.numpy as jnp
import numpy as np

from mvjax.training.tasks import denoising


def test_times_cover_the_schedule_evenly_in_a_batch():
  times = np.asarray(denoising.draw_times(jax.random.key(1), 10, length=1000))
  np.testing.assert_array_equal(times, np.floor(times))
  np.testing.assert_array_equal(np.sort(times // 100), np.arange(10))


def test_a_time_is_uniform():
  keys = jax.random.split(jax.random.key(0), 4000)
  draw = jax.vmap(lambda key: denoising.draw_times(key, 3, length=10)[1])
  counts = np.bincount(np.asarray(draw(keys), int), minlength=10)
  assert counts.min() > 320 and counts.max() < 480


def test_dropped_captions_become_the_empty_text():
  ids, empty = jnp.ones((4000, 3), jnp.int32), jnp.zeros(3, jnp.int32)
  kept = denoising.drop_captions(
    ids, empty, share=0.1, key=jax.random.key(0)
  ).mean(-1)
  assert set(np.unique(kept)) == {0.0, 1.0}
  assert 0.08 < 1 - float(kept.mean()) < 0.12
