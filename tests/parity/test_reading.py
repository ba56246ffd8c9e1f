"""Folders that diffusers and transformers wrote, read by us."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
import torch_models

from mvjax import diffusion, sampling
from mvjax.models import diffusers_flax, loading

TIMES = np.array([3.0, 500.0, 999.0], np.float32)


@pytest.fixture(scope="module", params=list(torch_models.UNETS))
def pair(request, tmp_path_factory):
  """Their pipeline, and our model of the folder that it wrote."""
  home = tmp_path_factory.mktemp("theirs")
  pipeline = torch_models.pipeline(request.param, home / "tokens")
  pipeline.save_pretrained(home / "model")
  return pipeline, loading.load(home / "model")


def apply(model, part, *inputs, **settings):
  module, params = getattr(model, part), model.params[part]
  compiled = jax.jit(
    lambda params, *x: module.apply({"params": params}, *x, **settings),
  )
  return compiled(params, *map(jnp.asarray, inputs))


def unet_inputs():
  x = torch_models.draw(3, 8, 8, 4)
  return x, TIMES, torch_models.draw(3, 7, torch_models.WIDTH, seed=1)


@torch.no_grad()
def test_unet(pair):
  pipeline, ours = pair
  inputs = unet_inputs()
  want = pipeline.unet(*map(torch_models.to_torch, inputs)).sample
  got = apply(ours, "unet", *inputs)
  assert want.std() > 0.3
  np.testing.assert_allclose(got, torch_models.from_torch(want), atol=1e-4)


@torch.no_grad()
def test_vae(pair):
  pipeline, ours = pair
  images, latents = np.tanh(torch_models.draw(2, 16, 16, 3)), unet_inputs()[0]
  want = pipeline.vae.encode(torch_models.to_torch(images)).latent_dist
  got = apply(ours, "vae", images, method="encode")
  for theirs, mine in zip((want.mean, want.logvar), got, strict=True):
    np.testing.assert_allclose(mine, torch_models.from_torch(theirs), atol=1e-4)
  want = pipeline.vae.decode(torch_models.to_torch(latents)).sample
  got = apply(ours, "vae", latents, method="decode")
  np.testing.assert_allclose(got, torch_models.from_torch(want), atol=2e-4)
  assert ours.scaling_factor == pipeline.vae.config.scaling_factor


@torch.no_grad()
def test_text(pair):
  pipeline, ours = pair
  texts = ["a red  Leather sofa, it's 3", "", "tête"]
  want_ids = pipeline.tokenizer(
    texts, padding="max_length", return_tensors="pt"
  ).input_ids
  ids = ours.tokenizer(texts)
  np.testing.assert_array_equal(ids, want_ids.numpy())
  want = pipeline.text_encoder(want_ids).last_hidden_state
  got = jax.jit(ours.encode_text)(ours.params, ids)
  np.testing.assert_allclose(got, torch_models.from_torch(want), atol=5e-5)


def test_schedule(pair):
  pipeline, ours = pair
  theirs = pipeline.scheduler
  np.testing.assert_allclose(
    ours.schedule.alphas_cumprod, theirs.alphas_cumprod.numpy(), atol=1e-6
  )
  for steps in (1, 7, 30):
    theirs.set_timesteps(steps)
    np.testing.assert_array_equal(
      sampling.timesteps(ours.schedule, steps), theirs.timesteps.numpy()
    )


def test_sampling(pair):
  """The deterministic run on a network that both have: tanh."""
  pipeline, ours = pair
  theirs, start = pipeline.scheduler, torch_models.draw(1, 2, 8, 8, 4)
  theirs.set_timesteps(5)
  want = torch.from_numpy(start)
  for t in theirs.timesteps:
    want = theirs.step(torch.tanh(want), t, want, eta=0.0).prev_sample

  def score(params, x, step, conditioning):
    del params, conditioning
    return diffusion.predict(
      jnp.tanh(x),
      x,
      level=step.level,
      prediction_type=ours.schedule.prediction_type,
    )

  got = sampling.denoise(
    score,
    None,
    jnp.asarray(start),
    conditioning=None,
    steps=sampling.make_steps(
      ours.schedule, 5, mode="2d", lambda_schedule="constant:0"
    ),
    keys=jax.random.key(0)[None],
    eta=0.0,
  )
  np.testing.assert_allclose(got, want.numpy(), atol=1e-5 * float(want.std()))


def test_shards_and_half_precision(pair, tmp_path):
  pipeline, ours = pair
  pipeline.save_pretrained(tmp_path / "shards", max_shard_size="300KB")
  assert len(list(tmp_path.glob("shards/unet/*.safetensors"))) > 1
  read = loading.load(tmp_path / "shards").params
  jax.tree.map(np.testing.assert_array_equal, read, ours.params)

  pipeline.to(dtype=torch.float16)
  pipeline.save_pretrained(tmp_path / "half", variant="fp16")
  pipeline.to(dtype=torch.float32)
  read = loading.load(tmp_path / "half").params
  jax.tree.map(
    lambda half, whole: np.testing.assert_array_equal(
      half, whole.astype(jnp.float16).astype(jnp.float32)
    ),
    read,
    ours.params,
  )


@torch.no_grad()
def test_bfloat16_is_as_good_as_theirs(pair, tmp_path):
  """Their float32 is the yardstick for both."""
  pipeline, _ = pair
  inputs = unet_inputs()
  tensors = [torch_models.to_torch(x) for x in inputs]
  want = torch_models.from_torch(pipeline.unet(*tensors).sample)
  pipeline.save_pretrained(tmp_path)
  half = pipeline.unet.to(torch.bfloat16)
  theirs = half(*(x.bfloat16() for x in tensors)).sample.float()
  ours = loading.load(tmp_path, jnp.bfloat16)
  got = apply(ours, "unet", *inputs)
  assert got.dtype == jnp.float32
  errors = [
    np.sqrt(np.mean(np.square(x - want)))
    for x in (np.asarray(got), torch_models.from_torch(theirs))
  ]
  assert 1e-4 < errors[0] < 1.5 * errors[1]


def test_releases_without_flax_are_named():
  with pytest.raises(ValueError, match=r"diffusers [\d.]+ has no Flax classes"):
    diffusers_flax.load(torch_models.NANO)
