"""The sampler against closed forms, PyTorch diffusers and its promises."""

import dataclasses
import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mvjax import diffusion, sampling, scores

GOLDEN = pathlib.Path(__file__).parent / "goldens" / "ddim"
ARRAYS = np.load(GOLDEN / "io.npz")
CONFIGS = json.loads((GOLDEN / "config.json").read_text())["cases"]
CASES = pytest.mark.parametrize("case", CONFIGS)
MEAN, SPREAD = 1.5, 0.4


def schedule(case="sd_leading"):
  return diffusion.NoiseSchedule.from_config(CONFIGS[case])


def gaussian(params, x, step, conditioning):
  """Exact score of independent data of the given mean and spread."""
  alpha, sigma = step.level
  mean, spread = params
  variance = (alpha * spread) ** 2 + sigma**2
  return diffusion.Prediction(
    eps=sigma * (x - alpha * mean) / variance,
    x0=mean + alpha * spread**2 * (x - alpha * mean) / variance,
  )


def convolution(params, x, step, conditioning):
  """A network: XLA may fuse what surrounds it."""
  b, v, h, w, c = x.shape
  y = jax.lax.conv_general_dilated(
    x.reshape(b * v, h, w, c),
    params,
    (1, 1),
    "SAME",
    dimension_numbers=("NHWC", "HWIO", "NHWC"),
  ).reshape(x.shape)
  return diffusion.predict(
    jnp.tanh(y + conditioning.text.mean((1, 2)).reshape(b, 1, 1, 1, 1)),
    x,
    level=step.level,
    prediction_type="v_prediction",
  )


def make_steps(num_steps=5, case="sd_leading", mode="2d", spec="constant:1"):
  return sampling.make_steps(
    schedule(case), num_steps, mode=mode, lambda_schedule=spec
  )


def run(score, params, *, conditioning=None, **changes):
  settings = {
    "steps": make_steps(),
    "keys": jax.random.split(jax.random.key(1), 3),
    "shape": (2, 4, 4, 3),
    "eta": 0.0,
  }
  return sampling.sample(
    score, params, conditioning=conditioning, **(settings | changes)
  )


def first_noise():
  """Where `run` starts: a model without belief in noise returns it."""

  def trusting(params, x, step, conditioning):
    return diffusion.Prediction(eps=0 * x, x0=x)

  return run(trusting, None, steps=make_steps(1, "linspace_eps"))


@CASES
@pytest.mark.parametrize("num_steps", [5, 7, 25, 30, 50])
def test_time_grids_equal_those_of_diffusers(case, num_steps):
  np.testing.assert_array_equal(
    sampling.timesteps(schedule(case), num_steps),
    ARRAYS[f"out.{case}.timesteps_{num_steps}"],
  )


@pytest.mark.parametrize("asked, got", [(7, 8), (25, 25), (30, 31), (50, 50)])
def test_ldm_grids_go_to_the_end_of_the_table(asked, got):
  """The originals' grids: `range(0, 1000, 1000 // asked)`, plus 1."""
  ours = dataclasses.replace(schedule(), timestep_spacing="ldm")
  times = sampling.timesteps(ours, asked)
  assert len(times) == got and times[-1] == 1
  assert set(np.diff(times)) == {-(1000 // asked)}
  assert times[0] + 1000 // asked > 1000
  steps = sampling.make_steps(
    ours, asked, mode="2d", lambda_schedule="constant:1"
  )
  assert len(steps.levels.alpha) == got + 1
  assert len(steps.weights["image"]) == got


@pytest.mark.parametrize("num_steps", [0, -1, 1000, 1001])
def test_step_counts_without_a_grid_are_named(num_steps):
  with pytest.raises(ValueError, match=f"steps={num_steps}"):
    sampling.timesteps(schedule(), num_steps)


@CASES
@pytest.mark.parametrize("eta", [0, 1])
def test_steps_agree_with_diffusers(case, eta):
  ours = schedule(case)
  x = jnp.asarray(ARRAYS["in.x"])
  for k, t in enumerate(ARRAYS[f"out.{case}.timesteps_5"]):
    level = ours.level(jnp.float32(t))
    # diffusers steps back by a fixed stride, whatever its next time is.
    before = t - 1000 // 5
    next_level = (
      ours.final_level if before < 0 else ours.level(jnp.float32(before))
    )
    prediction = diffusion.predict(
      jnp.asarray(ARRAYS["in.model_out"][k]),
      x,
      level=level,
      prediction_type=ours.prediction_type,
    )
    if eta == 0:
      expected = ARRAYS[f"out.{case}.pred_x0_eta0"][k]
      limit = 1e-5 * np.sqrt(np.mean(expected**2))
      np.testing.assert_allclose(prediction.x0, expected, atol=limit)
    x = sampling.ddim_update(
      prediction,
      jnp.asarray(ARRAYS["in.noise"][k]),
      level=level,
      next_level=next_level,
      eta=float(eta),
    )
    expected = ARRAYS[f"out.{case}.x_eta{eta}"][k]
    limit = 1e-5 * np.sqrt(np.mean(expected**2))
    np.testing.assert_allclose(x, expected, atol=limit)


@pytest.mark.parametrize("num_steps", [1, 6, 7])
def test_ancestral_steps_are_finite_from_pure_noise(num_steps):
  # The textbook form takes the root of a negative number here.
  steps = make_steps(num_steps, "trailing_v_zerosnr")
  assert steps.levels.alpha[0] == 0.0
  for eta in (0.0, 0.5, 1.0):
    x = run(gaussian, (MEAN, SPREAD), steps=steps, eta=eta)
    assert jnp.isfinite(x).all()


def test_a_run_ends_at_the_final_level():
  kept = make_steps(5, "sd_leading").levels
  clean = make_steps(5, "linspace_eps").levels
  assert kept.sigma.shape == (6,)
  np.testing.assert_allclose(kept.alpha[-1] ** 2, 0.99915, atol=1e-5)
  assert clean.alpha[-1] == 1.0 and clean.sigma[-1] == 0.0


def test_ddim_on_gaussian_data_is_a_linear_map():
  steps = make_steps(7)
  alpha, sigma = (np.asarray(a, np.float64) for a in steps.levels)
  # Inner products of neighbouring levels over the variance of x.
  gains = (SPREAD**2 * alpha[1:] * alpha[:-1] + sigma[1:] * sigma[:-1]) / (
    SPREAD**2 * alpha[:-1] ** 2 + sigma[:-1] ** 2
  )
  moved = np.prod(gains) * (first_noise() - alpha[0] * MEAN)
  result = run(gaussian, (MEAN, SPREAD), steps=steps)
  np.testing.assert_allclose(result, alpha[-1] * MEAN + moved, atol=1e-5)


def test_a_start_is_noised_to_the_first_level():
  def trusting(params, x, step, conditioning):
    return diffusion.Prediction(eps=0 * x, x0=x)

  steps = make_steps(1)
  start = jnp.linspace(-1.0, 1.0, 96).reshape(2, 4, 4, 3)
  alpha, sigma = (np.asarray(grid) for grid in steps.levels)
  moved = run(trusting, None, steps=steps, start=start) / alpha[1]
  np.testing.assert_allclose(
    moved,
    alpha[0] * np.asarray(start) + sigma[0] * np.asarray(first_noise()),
    atol=1e-5,
  )


def test_many_ddim_steps_follow_the_probability_flow():
  steps = make_steps(500)
  alpha, sigma = (np.asarray(a)[[0, -1]] for a in steps.levels)
  spread = np.hypot(alpha * SPREAD, sigma)
  moved = spread[1] / spread[0] * (first_noise() - alpha[0] * MEAN)
  result = run(gaussian, (MEAN, SPREAD), steps=steps)
  np.testing.assert_allclose(result, alpha[1] * MEAN + moved, atol=0.01)


@pytest.mark.parametrize("eta", [0.0, 0.4, 1.0])
def test_samples_have_the_marginals_of_gaussian_data(eta):
  x = run(
    gaussian,
    (MEAN, SPREAD),
    # From pure noise: elsewhere the start has no signal, the data has some.
    steps=make_steps(400, "trailing_v_zerosnr"),
    shape=(4, 32, 32, 3),
    eta=eta,
  )
  # 36864 numbers: a standard error of 0.002 in both.
  np.testing.assert_allclose(x.mean(), MEAN, atol=0.015)
  np.testing.assert_allclose(x.std(), SPREAD, atol=0.015)


def test_an_asset_depends_on_its_own_key_only():
  keys = jax.random.split(jax.random.key(3), 5)
  together = run(gaussian, (MEAN, SPREAD), keys=keys, eta=1.0)
  alone = run(gaussian, (MEAN, SPREAD), keys=keys[3:4], eta=1.0)
  np.testing.assert_array_equal(together[3], alone[0])
  assert (together[2] != together[3]).any()


def test_noise_is_fresh_at_every_step():
  # With x0 = eps = 0 a step leaves nothing but its own noise.
  def silent(params, x, step, conditioning):
    return diffusion.Prediction(eps=0 * x, x0=0 * x)

  ends = [first_noise().ravel()]
  for num_steps in (1, 2):
    steps = make_steps(num_steps)
    x = run(silent, None, steps=steps, eta=1.0)
    ends.append(x.ravel())
  correlation = jnp.corrcoef(jnp.stack(ends))
  assert (abs(correlation - jnp.eye(3)) < 0.4).all()


def test_one_compilation_for_all_data():
  traces = []

  def counted(params, x, step, conditioning):
    traces.append(1)
    return convolution(params, x, step, conditioning)

  names = ("multiview", "image")
  guided = scores.classifier_free_guidance(counted)
  score = scores.mix(dict.fromkeys(names, guided))
  results = []
  for seed, mode_spec, eta in (
    (0, "paper", 0.0),
    (1, "late-2d", 1.0),
    (2, "constant:0", 0.3),
  ):
    keys = jax.random.split(jax.random.key(seed), 3)
    texts = jax.random.normal(keys[0], (2, 3, 7, 5))
    conditioning = scores.Conditioning(
      text=texts[0], negative_text=texts[1], guidance_scale=1.0 + seed
    )
    results.append(
      run(
        score,
        dict.fromkeys(names, jax.random.normal(keys[1], (3, 3, 3, 3)) / 5),
        conditioning=dict.fromkeys(names, conditioning),
        steps=make_steps(mode="mix", spec=mode_spec),
        keys=keys,
        eta=eta,
      )
    )
    if seed == 0:
      first = len(traces)
  assert len(traces) == first
  assert (results[0] != results[1]).any()


@pytest.mark.parametrize("kept", ["multiview", "image"])
def test_a_run_at_lambda_zero_or_one_is_the_single_model_bitwise(kept):
  names = ("multiview", "image")
  drawn = jax.random.normal(jax.random.key(4), (2, 3, 3, 3, 3)) / 5
  texts = jax.random.normal(jax.random.key(5), (2, 3, 7, 5))
  guided = scores.classifier_free_guidance(convolution)
  params = dict(zip(names, drawn, strict=True))
  conditioning = scores.Conditioning(
    text=texts[0], negative_text=texts[1], guidance_scale=5.0
  )
  alone = run(guided, params[kept], conditioning=conditioning, eta=0.5)
  dropped = names[1 - names.index(kept)]
  result = run(
    scores.mix(dict.fromkeys(names, guided)),
    params | {dropped: jnp.full_like(drawn[0], jnp.nan)},
    conditioning=dict.fromkeys(names, conditioning),
    steps=make_steps(mode="mix", spec=f"constant:{float(kept == 'multiview')}"),
    eta=0.5,
  )
  np.testing.assert_array_equal(result, alone)
