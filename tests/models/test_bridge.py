"""The bridge to a finer grid: its noise, and exact cases in closed form."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mvjax import diffusion, scores
from mvjax.models import bridge

SHAPE = (2, 8, 8, 4)
SCHEDULE = diffusion.NoiseSchedule(steps_offset=1, set_alpha_to_one=False)


def make_inputs(factor=2, time=600.0):
  x = jnp.asarray(np.random.default_rng(0).normal(size=(3, *SHAPE)), "float32")
  keys = jax.vmap(jax.random.key)(np.arange(3, dtype=np.uint32))
  conditioning = scores.Conditioning(
    text=None, fine_noise=bridge.draw_noise(keys, SHAPE, factor)
  )
  step = scores.Step(level=SCHEDULE.level(np.float32(time)), weights={})
  return x, step, conditioning


def record(seen):
  """A score that notes what it is asked and answers zero noise."""

  def score(params, x, step, conditioning):
    seen.update(x=x, level=step.level, conditioning=conditioning)
    return diffusion.Prediction(eps=0 * x, x0=x / step.level.alpha)

  return score


def gaussian(mean_of):
  """The exact score of Gaussian data, from its denoiser of y at spread rho."""

  def score(params, x, step, conditioning):
    alpha, sigma = step.level
    x0 = mean_of(x / alpha, sigma / alpha)
    return diffusion.Prediction(eps=(x - alpha * x0) / sigma, x0=x0)

  return score


@pytest.mark.parametrize("factor", [2, 4])
def test_noise_is_white_on_the_fine_grid_at_the_level_asked(factor):
  side = 96
  shape = (1, side, side, 4)
  key = jax.random.key(7)
  eps = jax.random.normal(key, (1, *shape))
  level = SCHEDULE.level(np.float32(300))
  conditioning = scores.Conditioning(
    text=None, fine_noise=bridge.draw_noise(key[None], shape, factor)
  )
  seen = {}
  bridge.bridged(record(seen), factor)(
    None,
    level.sigma * eps,  # all of x is noise
    scores.Step(level=level, weights={}),
    conditioning,
  )
  noise = np.asarray(seen["x"] / seen["level"].sigma)[0, 0]
  count = noise.size
  assert abs(noise.std() - 1) < 5 / np.sqrt(count)
  for rows in range(factor + 1):
    for columns in range(factor + 1):
      if rows or columns:
        one = noise[rows:, columns:]
        other = noise[: noise.shape[0] - rows, : noise.shape[1] - columns]
        assert abs((one * other).mean()) < 5 / np.sqrt(one.size)


@pytest.mark.parametrize("factor", [2, 4])
def test_log_snr_asked_is_lower_by_2_ln_factor(factor):
  x, step, conditioning = make_inputs(factor)
  seen = {}
  bridge.bridged(record(seen), factor)(None, x, step, conditioning)
  np.testing.assert_allclose(
    seen["level"].log_snr, step.level.log_snr - 2 * np.log(factor), atol=1e-5
  )
  np.testing.assert_allclose(np.hypot(*seen["level"]), 1, atol=1e-6)


def test_signal_is_the_enlarged_signal():
  """What the model sees has the coarse latents as its block means."""
  x, step, conditioning = make_inputs()
  seen = {}
  bridge.bridged(record(seen), 2)(None, x, step, conditioning)
  np.testing.assert_allclose(
    bridge.pool(seen["x"] / seen["level"].alpha, 2),
    x / step.level.alpha,
    atol=1e-4,
  )


@pytest.mark.parametrize("time", [5.0, 400.0, 999.0])
@pytest.mark.parametrize("data", ["block-constant", "white"])
def test_gaussian_data_get_their_exact_coarse_score(data, time):
  """Fine data with a known law: the coarse law, and so its score, is known."""
  x, step, conditioning = make_inputs(time=time)
  variance = 0.7
  # By law of the fine data: its denoiser, and the variance of pooled data.
  denoiser, coarse = {
    "block-constant": (
      lambda y, rho: bridge.enlarge(
        variance / (variance + rho**2 / 4) * bridge.pool(y, 2), 2
      ),
      variance,
    ),
    "white": (
      lambda y, rho: variance / (variance + rho**2) * y,
      variance / 4,
    ),
  }[data]
  got = bridge.bridged(gaussian(denoiser), 2)(None, x, step, conditioning)
  alpha, sigma = (np.float64(a) for a in step.level)
  x0 = alpha * coarse * x / (alpha**2 * coarse + sigma**2)
  np.testing.assert_allclose(got.x0, x0, rtol=1e-3, atol=1e-4)
  eps = sigma * x / (alpha**2 * coarse + sigma**2)
  # At little noise eps is a difference of nearly equal numbers over sigma.
  np.testing.assert_allclose(got.eps, eps, atol=1e-5 / sigma + 1e-4)


def test_prediction_explains_x():
  x, step, conditioning = make_inputs()
  got = bridge.bridged(record({}), 2)(None, x, step, conditioning)
  np.testing.assert_allclose(
    diffusion.add_noise(got.x0, got.eps, level=step.level), x, atol=1e-5
  )


def test_finite_at_pure_noise():
  x, step, conditioning = make_inputs()
  pure = diffusion.NoiseLevel(alpha=jnp.float32(0), sigma=jnp.float32(1))
  score = bridge.bridged(
    lambda params, x, step, conditioning: diffusion.predict(
      0.1 * x, x, level=step.level, prediction_type="v_prediction"
    ),
    2,
  )
  got = score(None, x, step._replace(level=pure), conditioning)
  assert np.isfinite(got.eps).all() and np.isfinite(got.x0).all()


def test_a_factor_of_one_is_the_score_itself():
  score = record({})
  assert bridge.bridged(score, 1) is score


def test_no_whole_ratio_is_refused():
  with pytest.raises(ValueError, match="'bridge': sd works on 48x48"):
    bridge.factor_between(48, 32, names=("sd", "mv"))
