"""Guidance, mixing and lambda schedules, with small networks as scores."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mvjax import diffusion, scores

LEVEL = diffusion.NoiseLevel(alpha=jnp.float32(0.6), sigma=jnp.float32(0.8))
SHAPE = (2, 3, 4, 4, 5)


def network(params, x, step, conditioning):
  """A score that is equivariant to views and knows text and cameras."""
  text = conditioning.text.mean(-2)
  text = text[:, None] if text.ndim == 2 else text
  hidden = jnp.tanh(
    x @ params + (text + conditioning.cameras)[:, :, None, None]
  )
  return diffusion.predict(
    hidden + hidden.mean(1, keepdims=True),
    x,
    level=step.level,
    prediction_type="v_prediction",
  )


def step(**weights):
  return scores.Step(
    level=LEVEL, weights={k: jnp.float32(w) for k, w in weights.items()}
  )


def inputs(seed=0, **settings):
  keys = jax.random.split(jax.random.key(seed), 5)
  text, negative = jax.random.normal(keys[0], (2, 2, 7, 5))
  conditioning = scores.Conditioning(
    text=text,
    negative_text=negative,
    cameras=jax.random.normal(keys[1], (2, 3, 5)),
    **settings,
  )
  params = jax.random.normal(keys[2], (5, 5))
  return params, jax.random.normal(keys[3], SHAPE), conditioning


def experts():
  """Three different models under the names of the mix."""
  x = inputs()[1]
  drawn = {name: inputs(i) for i, name in enumerate(scores.COEFFICIENTS)}
  return (
    dict.fromkeys(drawn, network),
    {name: d[0] for name, d in drawn.items()},
    x,
    {name: d[2] for name, d in drawn.items()},
  )


def only(tree, *names):
  return {name: tree[name] for name in names}


@functools.cache
def mix_of(*names):
  return jax.jit(scores.mix(dict.fromkeys(names, network)))


def mixed(*, params=None, **weights):
  _, drawn, x, conditioning = experts()
  names = weights.keys()
  return mix_of(*names)(
    only(params or drawn, *names),
    x,
    step(**weights),
    only(conditioning, *names),
  )


def replace(conditioning, **changes):
  return scores.Conditioning(**(vars(conditioning) | changes))


def test_guidance_extrapolates_from_negative_to_positive():
  params, x, conditioning = inputs()
  guided = jax.jit(scores.classifier_free_guidance(network))
  plain = jax.jit(network)
  positive = plain(params, x, step(), conditioning)
  negative = plain(
    params, x, step(), replace(conditioning, text=conditioning.negative_text)
  )
  for scale, expected in (
    (0.0, negative),
    (1.0, positive),
    (3.0, jax.tree.map(lambda p, n: 3 * p - 2 * n, positive, negative)),
  ):
    result = guided(
      params, x, step(), replace(conditioning, guidance_scale=scale)
    )
    jax.tree.map(
      lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), result, expected
    )
  unguided = guided(
    params, x, step(), replace(conditioning, negative_text=None)
  )
  jax.tree.map(np.testing.assert_array_equal, unguided, positive)


def test_guidance_runs_the_model_once_with_shared_cameras():
  seen = []

  def spy(params, x, step, conditioning):
    # Under vmap only what differs between the branches is mapped.
    seen.append(
      [
        type(leaf).__name__ == "BatchTracer"
        for leaf in (conditioning.text, conditioning.cameras, x, params)
      ]
    )
    return network(params, x, step, conditioning)

  params, x, conditioning = inputs()
  scores.classifier_free_guidance(spy)(params, x, step(), conditioning)
  assert seen == [[True, False, False, False]]


def test_rescale_restores_the_spread_of_each_asset():
  params, x, conditioning = inputs(guidance_scale=6.0)
  guided = jax.jit(scores.classifier_free_guidance(network))
  positive = network(params, x, step(), conditioning)
  over = guided(params, x, step(), conditioning)
  full = guided(params, x, step(), replace(conditioning, guidance_rescale=1.0))
  axes = (1, 2, 3, 4)
  np.testing.assert_allclose(
    full.x0.std(axes), positive.x0.std(axes), rtol=1e-5
  )
  assert (over.x0.std(axes) > 1.1 * positive.x0.std(axes)).all()
  # Still one prediction of the same x.
  np.testing.assert_allclose(
    LEVEL.alpha * full.x0 + LEVEL.sigma * full.eps, x, atol=1e-5
  )
  # The second asset does not change the first.
  other = x.at[1].multiply(10.0)
  again = guided(
    params, other, step(), replace(conditioning, guidance_rescale=1.0)
  )
  np.testing.assert_allclose(again.x0[0], full.x0[0], rtol=1e-5, atol=1e-6)


def test_mixed_score_is_the_weighted_sum():
  one, other = mixed(multiview=1.0), mixed(image=1.0)
  both = mixed(multiview=0.3, image=0.7)
  jax.tree.map(
    lambda m, a, b: np.testing.assert_allclose(m, 0.3 * a + 0.7 * b, atol=1e-6),
    both,
    one,
    other,
  )


@pytest.mark.parametrize(
  ("kept", "dropped"), [("multiview", "image"), ("image", "multiview")]
)
def test_lambda_zero_and_one_are_the_single_models_exactly(kept, dropped):
  _, params, x, conditioning = experts()
  alone = jax.jit(network)(params[kept], x, step(), conditioning[kept])
  # The dropped model is broken: it must not even be looked at.
  result = mixed(
    params=params | {dropped: jnp.full((5, 5), jnp.nan)},
    **{kept: 1.0, dropped: 0.0},
  )
  jax.tree.map(np.testing.assert_array_equal, result, alone)


def test_mix_is_2d_plus_consistency_plus_domain_shift():
  weight = 0.35
  multiview, image, single = (
    mixed(**{name: 1.0}).eps for name in scores.COEFFICIENTS
  )
  consistency = mixed(multiview=1.0, single_view=-1.0).eps
  np.testing.assert_allclose(consistency, multiview - single, atol=1e-6)
  np.testing.assert_allclose(
    mixed(multiview=weight, image=1 - weight).eps,
    image + weight * consistency + weight * (single - image),
    atol=1e-6,
  )
  np.testing.assert_allclose(
    mixed(multiview=2.0, image=1.0, single_view=-2.0).eps,
    image + 2.0 * consistency,
    atol=2e-6,
  )


def test_permuting_views_permutes_the_score():
  order = jnp.array([2, 0, 1])
  networks, params, x, conditioning = experts()
  score = jax.jit(
    scores.mix(
      {n: scores.classifier_free_guidance(s) for n, s in networks.items()}
    )
  )
  conditioning = {
    name: replace(
      c,
      text=jnp.stack([c.text, 2 * c.text, -c.text], 1),
      negative_text=jnp.stack([c.negative_text] * 3, 1),
      guidance_scale=3.0,
    )
    for name, c in conditioning.items()
  }
  permuted = {
    name: replace(
      c,
      text=c.text[:, order],
      negative_text=c.negative_text[:, order],
      cameras=c.cameras[:, order],
    )
    for name, c in conditioning.items()
  }
  now = step(multiview=1.5, image=1.0, single_view=-1.5)
  expected = score(params, x, now, conditioning)
  result = score(params, x[:, order], now, permuted)
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b[:, order], atol=2e-5),
    result,
    expected,
  )


def test_gaussian_experts_mix_to_the_naive_precision():
  variances, weight = (0.3, 2.0), 0.4
  noise = float(LEVEL.sigma / LEVEL.alpha) ** 2

  def expert(params, x, step, conditioning):
    alpha, sigma = step.level
    return diffusion.Prediction(
      eps=sigma * x / (alpha**2 * params + sigma**2),
      x0=alpha * params * x / (alpha**2 * params + sigma**2),
    )

  names = ("multiview", "image")
  score = scores.mix(dict.fromkeys(names, expert))
  prediction = score(
    dict(zip(names, variances, strict=True)),
    jnp.ones((1,)),
    step(multiview=weight, image=1 - weight),
    dict.fromkeys(names),
  )
  # In variance-exploding coordinates y = x / alpha the score is -eps / rho.
  precision = prediction.eps[0] * LEVEL.alpha / np.sqrt(noise)
  one, other = variances
  naive = weight / (one + noise) + (1 - weight) / (other + noise)
  true = 1 / (1 / (weight / one + (1 - weight) / other) + noise)
  np.testing.assert_allclose(precision, naive, rtol=1e-5)
  assert abs(naive - true) > 0.05


def test_names_of_scores_and_weights_are_checked():
  with pytest.raises(ValueError, match="scores.*'2d'.*multiview, image"):
    scores.mix({"2d": network})
  with pytest.raises(ValueError, match="weights for.*scores for"):
    networks, params, x, conditioning = experts()
    scores.mix(networks)(params, x, step(multiview=1.0), conditioning)


def test_conditioning_is_a_pytree_with_any_leaves():
  conditioning = inputs()[2]
  assert jax.tree.map(lambda _: None, conditioning).text is None
  assert jax.eval_shape(lambda c: c, conditioning).text.shape == (2, 7, 5)


def evaluate(spec, fractions=(0.0, 0.25, 0.5, 1.0), log_snrs=(-5, -1, 0, 7)):
  return scores.lambda_schedule(
    spec,
    fractions=np.array(fractions, np.float32),
    log_snrs=np.array(log_snrs, np.float32),
  )


@pytest.mark.parametrize(
  ("spec", "expected"),
  [
    ("paper", [0.3, 0.425, 0.55, 0.8]),
    ("late-2d", [0.9, 0.775, 0.65, 0.4]),
    ("constant:0.5", [0.5] * 4),
    ("linear:0.5", [0.5] * 4),
    ("cosine:0,1", [0, 0.5 - np.sqrt(0.125), 0.5, 1]),
    ("linear:0,1,0", [0, 0.5, 1, 0]),
    ("linear:0.25=1,0.5=0", [1, 1, 0, 0]),
    ("constant:1,0", [1, 1, 0, 0]),
    ("constant:0=0.2,0.25=0.9,0.9=0.1", [0.2, 0.9, 0.9, 0.1]),
    ("linear:-5=0.3,5=0.8@log_snr", [0.3, 0.5, 0.55, 0.8]),
  ],
)
def test_lambda_schedules(spec, expected):
  values = evaluate(spec)
  assert values.dtype == np.float32
  np.testing.assert_allclose(values, expected, atol=1e-6)


def test_lambda_schedules_take_infinite_log_snrs_and_single_steps():
  np.testing.assert_allclose(
    evaluate("linear:-5=0.3,5=0.8@log_snr", (0, 1), (-np.inf, np.inf)),
    [0.3, 0.8],
  )
  np.testing.assert_allclose(evaluate("paper", (0,), (0,)), [0.3])


@pytest.mark.parametrize(
  "spec",
  [
    "papr",
    "",
    "linear",
    "linear:",
    "linear:a,b",
    "spline:0,1",
    "linear:0,1@sigma",
    "linear:0,1@log_snr",
    "linear:1=0,0=1",
    "linear:0=1,0.5",
    "constant:nan",
    "linear:0=1=2",
  ],
)
def test_unreadable_lambda_schedules_are_named(spec):
  with pytest.raises(ValueError, match="paper, late-2d") as error:
    evaluate(spec)
  assert f"lambda_schedule={spec!r}" in str(error.value)


def test_weights_of_every_mode():
  lambdas = np.array([0.0, 0.3, 1.0], np.float32)
  total = {
    mode: sum(scores.weights(mode, lambdas).values()) for mode in scores.MODES
  }
  for mode, names in scores.MODES.items():
    assert set(scores.weights(mode, lambdas)) == set(names)
    np.testing.assert_allclose(total[mode], 1.0, atol=1e-6)
  np.testing.assert_array_equal(
    scores.weights("mix", lambdas)["image"][[0, 2]], [1.0, 0.0]
  )
  with pytest.raises(ValueError, match="'both'.*mix, mv, 2d"):
    scores.weights("both", lambdas)
  with pytest.raises(ValueError, match="lambda_schedule reaches 1.5"):
    scores.weights("mix", lambdas * 1.5)
