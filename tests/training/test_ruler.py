"""The ruler: what a network whose losses are known measures."""

import json
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mvjax import diffusion
from mvjax.models import stable_diffusion
from mvjax.training import loop, state
from mvjax.training.tasks import denoising, registry, ruler
from tests.parallel import small as multiview

SCHEDULE = diffusion.NoiseSchedule(prediction_type="v_prediction")
HELP = 0.25
SHAPE = 3, 4


def toy_errors(time, cut):
  """Of a network that says `HELP` where it sees other views, and 0 elsewhere.

  Clean latents are -1 and the noise is 0, so that the target is sigma.
  """

  def apply(variables, x, t, text, cameras):
    del variables, t, text
    said = jnp.where(cameras, 0.0, HELP)
    return jnp.broadcast_to(
      jnp.repeat(said, SHAPE[1])[:, None, None, None], x.shape
    )

  model = object.__new__(stable_diffusion.FlaxStableDiffusion)
  vars(model).update(schedule=SCHEDULE, unet=types.SimpleNamespace(apply=apply))
  clean = -jnp.ones((*SHAPE, 2, 2, 1))
  return denoising.denoising_errors(
    model,
    {"unet": {}},
    latents=clean,
    text=jnp.zeros((SHAPE[0], 1, 1)),
    cameras=cut,
    drawn={"time": time, "noise": jnp.zeros_like(clean)},
  )


def sigma(time):
  return float(SCHEDULE.level(float(time)).sigma)


def test_losses_of_a_toy_network_are_those_of_the_closed_form():
  found = ruler.of_views(toy_errors, shape=SHAPE, length=1000)
  expected = {}
  for time in (100, 300, 500, 700, 900):
    expected[f"loss_t{time}"] = (sigma(time) - HELP) ** 2
    expected[f"loss_t{time}_cut"] = sigma(time) ** 2
  expected["loss"] = np.mean([v for k, v in expected.items() if "cut" not in k])
  # Of the noisy view alone, or the three clean ones would be most of it.
  for time in (700, 900):
    expected[f"loss_t{time}_clean"] = (sigma(time) - HELP) ** 2
    expected[f"loss_t{time}_clean_cut"] = sigma(time) ** 2
  assert found.keys() == expected.keys()
  for name, value in expected.items():
    np.testing.assert_allclose(found[name], value, rtol=1e-5, err_msg=name)


def test_the_other_views_are_nearly_clean_and_the_noisy_one_changes():
  seen = []

  def errors(time, cut):
    jax.debug.callback(lambda t: seen.append(np.array(t)), time)
    return jnp.zeros(SHAPE) + cut[:, None]

  ruler.of_views(errors, shape=SHAPE, length=1000)
  jax.effects_barrier()
  beside = [t for t in seen if t.min() == 50]
  assert len(seen) == 14 and len(beside) == 4
  for time in beside:
    noisy = time > 50
    np.testing.assert_array_equal(noisy.sum(1), 1)
    np.testing.assert_array_equal(noisy.argmax(1), [0, 1, 2])
    assert np.unique(time[noisy]).size == 1


def test_gains_are_what_cutting_adds_and_its_share():
  losses = {"loss": 1.0, "loss_t500": 3.0, "loss_t500_cut": 4.0}
  losses |= {"loss_t700_clean": 0.5, "loss_t700_clean_cut": 2.0}
  assert ruler.gains(losses) == {
    "gain_t500": 1.0,
    "share_t500": 0.25,
    "gain_t700_clean": 1.5,
    "share_t700_clean": 0.75,
  }


def test_losses_of_single_views_are_at_fixed_times():
  found = ruler.at_times(lambda time: 2 * time, shape=(3, 1), length=1000)
  assert {name: float(value) for name, value in found.items()} == {
    "loss_t100": 200.0,
    "loss_t300": 600.0,
    "loss_t500": 1000.0,
    "loss_t700": 1400.0,
    "loss_t900": 1800.0,
    "loss": 1000.0,
  }


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
  """A tiny multi-view run that validates, and what it wrote."""
  home = tmp_path_factory.mktemp("ruler")
  config = multiview.config(home / "model", batch_size=2)
  with config.unlocked():
    config.data.image_size = 16
  config.train.update(
    steps=2, log_every=1, validation_every=2, validation_batches=2
  )
  config.optimizer.warmup_steps = 1
  return home, config


@pytest.mark.filterwarnings("ignore:text cut")
def test_a_run_writes_the_ruler_from_its_first_step_to_its_last(runs):
  home, config = runs
  loop.train(config, home / "run")
  lines = (home / "run/metrics.jsonl").read_text().splitlines()
  rows = [row for row in map(json.loads, lines) if "validation/loss" in row]
  assert [row["step"] for row in rows] == [0, 2]
  for row in rows:
    for place in ("t100", "t500", "t900", "t700_clean", "t900_clean"):
      seen, cut = (row[f"validation/loss_{place}{end}"] for end in ("", "_cut"))
      assert row[f"validation/gain_{place}"] == cut - seen
      assert row[f"validation/share_{place}"] == (cut - seen) / cut


@pytest.mark.filterwarnings("ignore:text cut")
def test_only_blocks_that_look_gain_and_measuring_repeats_itself(
  runs, tmp_path
):
  """Blocks whose last projection is zero see no view."""
  home, config = runs
  stream = loop.open_streams(config)["main"]
  task = registry.make(config, workdir=tmp_path, stream=stream)
  batch = task.prepare(next(stream.start(0)))
  measure = jax.jit(state.make_validation(task.losses["main"], seed=0))
  blind = jax.tree_util.tree_map_with_path(
    lambda path, leaf: (
      leaf * ("['epipolar']['proj_out']" not in jax.tree_util.keystr(path))
    ),
    task.params,
  )
  found = [
    {k: float(v) for k, v in measure(params, batch, task.frozen, 0).items()}
    for params in (blind, task.params, task.params)
  ]
  assert not any(ruler.gains(found[0]).values())
  assert all(ruler.gains(found[1]).values())
  assert found[1] == found[2]
  assert measure._cache_size() == 1


@pytest.mark.filterwarnings("ignore:text cut")
def test_the_image_model_is_measured_at_the_same_times(runs, tmp_path):
  _, config = runs
  config = config.copy_and_resolve_references()
  with config.unlocked():
    config.task, config.data.num_views = "image", 1
  stream = loop.open_streams(config)["main"]
  task = registry.make(config, workdir=tmp_path, stream=stream)
  batch = task.prepare(next(stream.start(0)))
  measure = jax.jit(state.make_validation(task.losses["main"], seed=0))
  found = measure(task.params, batch, task.frozen, 0)
  named = [f"loss_t{time}" for time in (100, 300, 500, 700, 900)]
  assert sorted(found) == ["loss", *named]
  mean = np.mean([float(found[name]) for name in named])
  np.testing.assert_allclose(float(found["loss"]), mean, rtol=1e-5)
  assert len({float(found[name]) for name in named}) == 5
