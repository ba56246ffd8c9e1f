"""Noise schedules against PyTorch diffusers, conversions against identities."""

import functools
import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mvjax import diffusion

GOLDEN = pathlib.Path(__file__).parent / "goldens" / "ddim"
ARRAYS = np.load(GOLDEN / "io.npz")
CONFIGS = json.loads((GOLDEN / "config.json").read_text())["cases"]
CASES = pytest.mark.parametrize("case", CONFIGS)


def schedule(case="sd_leading"):
  return diffusion.NoiseSchedule.from_config(CONFIGS[case])


@CASES
def test_tables_agree_with_diffusers(case):
  ours = schedule(case)
  # The reference rescales its table in float32.
  limit = 1e-4 if "zerosnr" in case else 1e-8
  np.testing.assert_allclose(
    ours.betas, ARRAYS[f"out.{case}.betas"], atol=limit
  )
  assert ours.alphas_cumprod.dtype == np.float32
  np.testing.assert_allclose(
    ours.alphas_cumprod, ARRAYS[f"out.{case}.alphas_cumprod"], atol=2e-6
  )
  np.testing.assert_allclose(
    ours.final_level.alpha**2,
    ARRAYS[f"out.{case}.final_alpha_cumprod"],
    atol=1e-6,
  )


@CASES
def test_noise_and_velocity_agree_with_diffusers(case):
  x0, noise = (jnp.asarray(ARRAYS[f"in.{n}"]) for n in ("x0", "noise"))
  level = schedule(case).level(ARRAYS["in.add_noise_t"].astype(np.float32))
  for name, fun in (
    ("add_noise", diffusion.add_noise),
    ("velocity", diffusion.velocity),
  ):
    np.testing.assert_allclose(
      fun(x0, noise[0], level=level), ARRAYS[f"out.{case}.{name}"], atol=1e-5
    )


def test_known_values_of_the_stable_diffusion_table():
  level = schedule().level(jnp.array([0.0, 21.0, 500.0, 999.0]))
  np.testing.assert_allclose(
    level.alpha**2, [0.99915, 0.980381, 0.276333, 0.004660], atol=1e-6
  )
  np.testing.assert_allclose(level.log_snr[::3], [7.07, -5.36], atol=5e-3)


@CASES
def test_levels_lie_on_the_circle_and_time_inverts_them(case):
  ours = schedule(case)
  t = jnp.linspace(0.0, 999.0, 1777)
  level = ours.level(t)
  np.testing.assert_allclose(level.alpha**2 + level.sigma**2, 1.0, atol=1e-6)
  assert (jnp.diff(level.log_snr) < 0).all()
  np.testing.assert_allclose(ours.time(level), t, atol=5e-3)
  # At whole times the level is the table's entry, in between between them.
  whole = ours.level(jnp.arange(1000.0))
  np.testing.assert_allclose(whole.alpha**2, ours.alphas_cumprod, rtol=1e-6)
  between = ours.level(jnp.float32(300.5)).alpha
  assert whole.alpha[301] < between < whole.alpha[300]


def test_times_and_levels_outside_the_table_are_clamped():
  ours = schedule()
  for outside, end in ((-3.0, 0.0), (2000.0, 999.0)):
    np.testing.assert_array_equal(
      ours.level(jnp.float32(outside)).alpha, ours.level(jnp.float32(end)).alpha
    )
  pure = diffusion.NoiseLevel(alpha=jnp.float32(0), sigma=jnp.float32(1))
  assert ours.time(pure) == 999.0
  assert ours.time(diffusion.NoiseLevel(pure.sigma, pure.alpha)) == 0.0


def test_two_tables_meet_at_equal_log_snr():
  one, other = schedule(), schedule("trailing_v_zerosnr")
  level = one.level(jnp.array([1.0, 250.0, 981.0]))
  matched = other.level(other.time(level))
  np.testing.assert_allclose(matched.log_snr, level.log_snr, atol=1e-3)
  assert (other.time(level) != jnp.array([1.0, 250.0, 981.0])).all()


@pytest.mark.parametrize("prediction_type", diffusion.PREDICTION_TYPES)
def test_the_perfect_network_recovers_noise_and_sample(prediction_type):
  x0, noise = jax.random.normal(jax.random.key(0), (2, 3, 4, 5))
  level = schedule().level(jnp.array([0.0, 480.5, 999.0]))
  target = diffusion.network_target(
    x0, noise, level=level, prediction_type=prediction_type
  )
  x = diffusion.add_noise(x0, noise, level=level)
  prediction = diffusion.predict(
    target.astype(jnp.float32), x, level=level, prediction_type=prediction_type
  )
  np.testing.assert_allclose(prediction.x0, x0, atol=3e-5)
  np.testing.assert_allclose(prediction.eps, noise, atol=3e-5)


def test_v_predictions_are_finite_from_pure_noise_to_no_noise():
  ours = schedule("trailing_v_zerosnr")
  last = ours.level(jnp.float32(999.0))
  assert last.alpha == 0.0 and last.sigma == 1.0
  x0, noise = jax.random.normal(jax.random.key(0), (2, 4))
  clean = diffusion.NoiseLevel(alpha=jnp.float32(1), sigma=jnp.float32(0))
  for level in (last, clean):
    v = diffusion.velocity(x0, noise, level=level)
    x = diffusion.add_noise(x0, noise, level=level)
    prediction = diffusion.predict(
      v, x, level=level, prediction_type="v_prediction"
    )
    np.testing.assert_array_equal(prediction.x0, x0)
    np.testing.assert_array_equal(prediction.eps, noise)


@pytest.mark.parametrize("prediction_type", diffusion.PREDICTION_TYPES)
def test_min_snr_weighs_the_error_of_x0_whatever_is_predicted(prediction_type):
  """weight |output error|^2 = min(SNR, gamma) |x0 error|^2."""
  gamma = 5.0
  table = diffusion.NoiseSchedule(prediction_type="v_prediction")
  level = table.level(jnp.array([0.0, 100.0, 400.0, 999.0]))
  x, output, wrong = jax.random.normal(jax.random.key(0), (3, 4, 6))
  predict = functools.partial(
    diffusion.predict, x=x, level=level, prediction_type=prediction_type
  )
  error = predict(output).x0 - predict(wrong).x0
  snr = jnp.exp(level.log_snr)
  assert snr[0] > gamma > snr[-1]
  weight = diffusion.min_snr_weight(
    level, gamma, prediction_type=prediction_type
  )
  np.testing.assert_allclose(
    weight[:, None] * jnp.square(output - wrong),
    jnp.minimum(snr, gamma)[:, None] * jnp.square(error),
    rtol=2e-3,
  )


def test_min_snr_weights_are_finite_from_pure_noise_to_no_noise():
  ends = diffusion.NoiseLevel(
    alpha=jnp.array([0.0, 1.0]), sigma=jnp.array([1.0, 0.0])
  )
  for prediction_type in diffusion.PREDICTION_TYPES:
    weight = diffusion.min_snr_weight(
      ends, 5.0, prediction_type=prediction_type
    )
    assert np.isfinite(weight).all() and (weight >= 0).all()


def test_low_precision_outputs_are_converted_in_float32():
  x = jnp.ones((2, 3), jnp.bfloat16)
  prediction = diffusion.predict(
    x, x, level=schedule().level(jnp.float32(7)), prediction_type="epsilon"
  )
  assert prediction.x0.dtype == prediction.eps.dtype == jnp.float32


@CASES
def test_configs_make_a_round_trip(case):
  ours = schedule(case)
  config = json.loads(json.dumps(ours.to_config()))
  assert diffusion.NoiseSchedule.from_config(config) == ours
  assert hash(diffusion.NoiseSchedule.from_config(config)) == hash(ours)
  assert CONFIGS[case].items() <= config.items()


def test_trained_betas_replace_the_rule():
  betas = schedule().betas.tolist()
  ours = diffusion.NoiseSchedule.from_config({"trained_betas": betas})
  np.testing.assert_array_equal(ours.alphas_cumprod, schedule().alphas_cumprod)
  config = json.loads(json.dumps(ours.to_config()))
  assert diffusion.NoiseSchedule.from_config(config) == ours


@pytest.mark.parametrize(
  ("change", "message"),
  [
    ({"beta_schedule": "cosine"}, "beta_schedule='cosine'.*scaled_linear"),
    ({"prediction_type": "eps"}, "prediction_type='eps'.*v_prediction"),
    ({"timestep_spacing": "log"}, "timestep_spacing='log'.*trailing"),
    ({"clip_sample": True}, "clip_sample"),
    ({"beta_end": 1.5}, "betas from"),
    ({"trained_betas": [0.1]}, "at least two"),
    ({"rescale_betas_zero_snr": True}, "epsilon.*use 'v_prediction'"),
  ],
)
def test_illegal_configs_are_named(change, message):
  with pytest.raises(ValueError, match=message):
    diffusion.NoiseSchedule.from_config(CONFIGS["sd_leading"] | change)


def test_unknown_prediction_type_is_named():
  x = jnp.zeros((1,))
  with pytest.raises(ValueError, match="'flow'.*epsilon"):
    diffusion.predict(
      x, x, level=schedule().level(jnp.float32(7)), prediction_type="flow"
    )
