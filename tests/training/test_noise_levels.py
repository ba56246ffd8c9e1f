"""Noise levels of views: which assets share one, and what the others get."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mvjax.training import loop, validation
from mvjax.training.tasks import noise_levels, registry
from tests.parallel import small as multiview
from tests.training import small

LENGTH = 1000
MANY = 400


def drawn(seed=0, *, assets=MANY, views=4, own_times=0.0, clean_views=0.0):
  """Times of assets, and of their views."""
  times_key, key = jax.random.split(jax.random.key(seed))
  times = noise_levels.draw_times(times_key, assets, length=LENGTH)
  of_views = noise_levels.of_views(
    key,
    times,
    views=views,
    length=LENGTH,
    own_times=own_times,
    clean_views=clean_views,
  )
  return np.asarray(times), np.asarray(of_views)


def is_shared(times, of_views):
  return (of_views == times[:, None]).all(1)


def test_times_cover_the_schedule_evenly_in_a_batch():
  key = jax.random.key(1)
  times = np.asarray(noise_levels.draw_times(key, 10, length=LENGTH))
  np.testing.assert_array_equal(times, np.floor(times))
  np.testing.assert_array_equal(np.sort(times // 100), np.arange(10))


def test_a_time_is_uniform():
  keys = jax.random.split(jax.random.key(0), 4000)
  draw = jax.vmap(lambda key: noise_levels.draw_times(key, 3, length=10)[1])
  counts = np.bincount(np.asarray(draw(keys), int), minlength=10)
  assert counts.min() > 320 and counts.max() < 480


def test_without_shares_all_views_have_the_time_of_their_asset():
  times, of_views = drawn()
  np.testing.assert_array_equal(of_views, np.repeat(times[:, None], 4, 1))


@pytest.mark.parametrize("shares", [(0.5, 0.0), (0.0, 0.5), (0.25, 0.25)])
def test_half_of_every_batch_is_as_without_shares(shares):
  for seed in range(20):
    times, of_views = drawn(
      seed, assets=4, own_times=shares[0], clean_views=shares[1]
    )
    assert of_views.shape == (4, 4)
    assert is_shared(times, of_views).sum() == 2


def test_which_assets_share_a_time_does_not_depend_on_it():
  """The times are spread over the batch, and so are the shares."""
  found = [drawn(seed, assets=2, own_times=0.5) for seed in range(400)]
  shared = np.stack([is_shared(*one) for one in found])
  np.testing.assert_array_equal(shared.sum(1), 1)
  times = np.stack([one[0] for one in found])
  for half in (times < 500, times >= 500):
    assert 0.4 < shared[half].mean() < 0.6
  assert 0.4 < shared[:, 0].mean() < 0.6


def test_own_times_are_independent_and_uniform():
  _, of_views = drawn(own_times=1.0)
  assert of_views.min() >= 0 and of_views.max() < LENGTH
  np.testing.assert_array_equal(of_views, np.floor(of_views))
  counts = np.bincount((of_views.ravel() // 100).astype(int), minlength=10)
  assert counts.min() > 110 and counts.max() < 210
  relations = np.corrcoef(of_views.T)[np.triu_indices(4, 1)]
  assert np.abs(relations).max() < 0.15


def test_one_to_all_but_one_views_are_nearly_clean():
  times, of_views = drawn(clean_views=1.0)
  noisy = times >= 100  # the others could be either
  clean = of_views[noisy] < 100
  counts = np.bincount(clean.sum(1), minlength=5)
  assert counts[0] == counts[4] == 0 and counts[1:4].min() > 90
  assert np.abs(clean.mean(0) - 0.5).max() < 0.1
  kept = np.repeat(times[noisy, None], 4, 1)
  np.testing.assert_array_equal(of_views[noisy][~clean], kept[~clean])
  levels = of_views[noisy][clean]
  assert levels.min() < 5 and levels.max() == 99
  assert 45 < levels.mean() < 55


def test_a_single_view_has_the_time_of_its_asset():
  times, of_views = drawn(views=1, own_times=0.5, clean_views=0.5)
  np.testing.assert_array_equal(of_views[:, 0], times)


def test_times_are_a_function_of_the_key():
  settings = dict(own_times=0.3, clean_views=0.3)
  same = [drawn(seed, **settings)[1] for seed in (1, 1, 2)]
  np.testing.assert_array_equal(same[0], same[1])
  assert (same[0] != same[2]).mean() > 0.9


def test_the_task_draws_a_time_for_every_view(tmp_path):
  """And all else that it draws is what it would be without shares."""
  found = {}
  for share in (0.0, 0.5):
    config = multiview.config(tmp_path / "model", batch_size=4)
    config.train.update(own_times=share, clean_views=0.0)
    config.data.num_views = 3
    stream = loop.open_streams(config)["main"]
    task = registry.make(config, workdir=tmp_path, stream=stream)
    batch = next(stream.start(0))
    batch["caption"][:] = "a red sofa"
    batch = task.prepare(batch)
    found[share] = task.losses["main"].draw(jax.random.key(0), batch)
  plain, mixed = (found[share].pop("time") for share in (0.0, 0.5))
  assert plain.shape == mixed.shape == (4, 3)
  np.testing.assert_array_equal(plain, jnp.repeat(plain[:, :1], 3, axis=1))
  assert (plain == mixed).all(1).sum() == 2
  jax.tree.map(np.testing.assert_array_equal, *found.values())


def test_shares_of_the_assets_are_checked():
  config = small.config("multiview", init_from="somewhere")
  config.train.update(own_times=0.6, clean_views=0.5)
  with pytest.raises(
    ValueError, match=r"own_times=0.6 \+ train.clean_views=0.5: .* at most 1"
  ):
    validation.validate(config)
  config.train.update(own_times=-0.1)
  with pytest.raises(ValueError, match=r"own_times=-0.1: must be in \[0, 1\]"):
    validation.validate(config)
