"""The 2D model on diffusers' Flax classes, against our own networks."""

import dataclasses
import logging
import types

import flax.linen as nn
import flax.traverse_util
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny_models

from mvjax import scores
from mvjax.models import diffusers_flax, loading, stable_diffusion
from mvjax.nn import attention, layers
from mvjax.training import components

VIEWS = 2


def write(home, source, **changes):
  """A copy of a model folder whose UNet has other fields and new weights."""
  model = loading.load(source)
  network = model.unet.clone(**changes)
  shapes = stable_diffusion.abstract_params(
    network, *stable_diffusion.unet_inputs(network)
  )
  params = model.params | {"unet": tiny_models.random_params(shapes, 5)}
  components.write_model(
    home,
    dataclasses.replace(model, unet=network),
    params=jax.device_get(params),
    dtype=np.float32,
  )
  return home


@pytest.fixture(scope="module", params=[False, True], ids=["conv", "linear"])
def both_styles(request, model_folders, tmp_path_factory):
  """Ours and theirs of one folder, with both styles of projection."""
  return make_pair(
    tmp_path_factory.mktemp("provider"), model_folders, linear=request.param
  )


@pytest.fixture(scope="module")
def models(model_folders, tmp_path_factory):
  """Ours and theirs of one folder."""
  return make_pair(
    tmp_path_factory.mktemp("provider"), model_folders, linear=True
  )


def make_pair(home, model_folders, *, linear):
  write(
    home,
    model_folders["image"],
    block_out_channels=(32, 64),
    attention_levels=(False, True),
    norm_num_groups=32,
    use_linear_projection=linear,
  )
  return loading.load(home), diffusers_flax.load(home)


def program(module, **settings):
  """The module's function of parameters and inputs, compiled anew."""
  return jax.jit(
    lambda params, *inputs: module.apply(
      {"params": params}, *inputs, **settings
    ),
  )


def unet_inputs(model, *, scale=1.0, weight_scale=1.0):
  """Parameters and inputs, with maps and residuals of any smallness."""
  random = np.random.default_rng(1)
  x = random.standard_normal((3, 8, 8, 4), np.float32)
  text = random.standard_normal((3, 5, 16), np.float32)
  flat = flax.traverse_util.flatten_dict(model.params["unet"])
  params = flax.traverse_util.unflatten_dict(
    {
      path: value * weight_scale if path[-2:] == ("conv2", "kernel") else value
      for path, value in flat.items()
    }
  )
  t = jnp.array([3.0, 500.5, 999.0])
  return params, jnp.asarray(scale * x), t, jnp.asarray(text)


def distance(one, other):
  return float(jnp.abs(one - other).max())


@pytest.fixture
def their_choices(monkeypatch):
  """Gives our networks the two choices in which theirs differ."""

  def group_norm(num_groups, epsilon, **fields):
    del epsilon
    return layers.GroupNorm(num_groups, 1e-5, **fields)

  def use():
    changed = types.SimpleNamespace(**vars(layers) | {"GroupNorm": group_norm})
    monkeypatch.setattr(attention, "layers", changed)
    monkeypatch.setattr(nn, "gelu", lambda x, approximate=True: jax.nn.gelu(x))

  return use


def test_unets_differ_by_two_choices_only(both_styles, their_choices):
  """The tanh GELU shows in ordinary maps, the epsilon in small ones."""
  ours, theirs = both_styles
  ordinary = unet_inputs(ours)
  small = unet_inputs(ours, scale=1e-3, weight_scale=1e-4)
  run_theirs, run_ours = program(theirs.unet), program(ours.unet)
  expected, expected_small = run_theirs(*ordinary), run_theirs(*small)
  assert 1e-4 < distance(run_ours(*ordinary), expected) < 1e-3
  assert 1e-3 < distance(run_ours(*small), expected_small) < 1e-1
  their_choices()
  run_ours = program(ours.unet)
  assert distance(run_ours(*ordinary), expected) < 2e-5
  assert distance(run_ours(*small), expected_small) < 1e-4


def test_autoencoders_agree(models):
  ours, theirs = models
  random = np.random.default_rng(2)
  images = jnp.asarray(random.uniform(-1, 1, (2, 16, 16, 3)), jnp.float32)
  # As wide as it has channels: theirs guesses which axis has the channels.
  latents = jnp.asarray(random.standard_normal((2, 8, 4, 4)), jnp.float32)
  for method, inputs in {"encode": images, "decode": latents}.items():
    got, want = (
      program(model.vae, method=method)(ours.params["vae"], inputs)
      for model in (theirs, ours)
    )
    jax.tree.map(
      lambda x, y: np.testing.assert_allclose(x, y, atol=2e-5), got, want
    )


@pytest.mark.parametrize("activation", ["quick_gelu", "gelu"])
def test_text_encoders_agree(models, activation):
  ours, theirs = models
  ids = jnp.asarray(ours.tokenizer(["a red sofa", "a blue wooden chair"]))
  got, want = (
    program(model.text_encoder.clone(activation=activation))(
      ours.params["text_encoder"], ids
    )
    for model in (theirs, ours)
  )
  jax.tree.map(
    lambda x, y: np.testing.assert_allclose(x, y, atol=1e-5), got, want
  )


def test_takes_the_place_of_ours(models):
  """One interface, one latent space, nearly one score; in half precision."""
  ours, theirs = models
  loading.check_mixable(ours, theirs)
  half = theirs.unet.clone(dtype=jnp.bfloat16)
  shape = (2, *ours.latent_shape(VIEWS))
  x = np.random.default_rng(3).standard_normal(shape).astype(np.float32)
  step = scores.Step(level=ours.schedule.level(np.float32(400.5)), weights={})
  ids = jnp.asarray(ours.tokenizer(["a red sofa", "a blue chair"]))
  eps = []
  for model in (ours, dataclasses.replace(theirs, unet=half)):

    def score(params, x, ids, model=model):
      conditioning = scores.Conditioning(text=model.encode_text(params, ids))
      return model.score(params, x, step, conditioning).eps

    compiled = jax.jit(score)
    eps.append(compiled(model.params, x, ids))
  assert eps[1].dtype == jnp.float32
  assert 1e-3 < distance(*eps) < 0.1


def test_their_notices_are_silenced(models):
  _, theirs = models
  records = []
  handler = logging.Handler()
  handler.emit = records.append
  logger = logging.getLogger("diffusers")
  logger.addHandler(handler)
  # Not theirs or ours: other code in the process may have set any level.
  level = logger.level
  logger.setLevel(logging.INFO)
  try:
    jax.eval_shape(program(theirs.unet), *unet_inputs(theirs))
    assert logger.level == logging.INFO
  finally:
    logger.removeHandler(handler)
    logger.setLevel(level)
  assert not records


def test_what_theirs_cannot_be_is_named(model_folders, tmp_path):
  with pytest.raises(ValueError, match="norm_num_groups=4, theirs is always"):
    diffusers_flax.load(model_folders["image"])
  with pytest.raises(ValueError, match="multi-view model, and they are 2D"):
    diffusers_flax.load(model_folders["multiview"])
  home = write(
    tmp_path / "model",
    model_folders["image"],
    block_out_channels=(32, 64),
    norm_num_groups=32,
    mid_attention=False,
  )
  with pytest.raises(ValueError, match="mid_block_type has no attention"):
    diffusers_flax.load(home)
