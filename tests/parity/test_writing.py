"""Models that we wrote, loaded by diffusers and transformers."""

import pathlib

import diffusers
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny_models
import torch
import torch_models

from mvjax.models import configs, loading, stable_diffusion
from mvjax.nn import joint_views, unet
from mvjax.weights import checkpoint, folder, write

OBJECTS, VIEWS, SIDE = 2, 4, 8
PARTS = ("unet", "vae", "text_encoder")


def load_theirs(home):
  return diffusers.StableDiffusionPipeline.from_pretrained(home)


def compiled(module, params, *inputs, **settings):
  return jax.jit(
    lambda params, *x: module.apply({"params": params}, *x, **settings),
  )(params, *map(jnp.asarray, inputs))


@torch.no_grad()
def test_a_trained_model_gives_the_same_numbers(tmp_path):
  """In the folder that training publishes."""
  tiny_models.write(tmp_path, seed=1)
  ours, theirs = loading.load(tmp_path), load_theirs(tmp_path)
  ids = jnp.asarray(ours.tokenizer(["a blue wooden chair", ""]))
  want_ids = theirs.tokenizer(
    ["a blue wooden chair", ""], padding="max_length", return_tensors="pt"
  ).input_ids
  np.testing.assert_array_equal(ids, want_ids.numpy())
  text = np.asarray(ours.encode_text(ours.params, ids))
  want = theirs.text_encoder(want_ids).last_hidden_state
  np.testing.assert_allclose(text, torch_models.from_torch(want), atol=5e-5)

  x, t = torch_models.draw(2, SIDE, SIDE, 4), np.float32([10, 900])
  got = compiled(ours.unet, ours.params["unet"], x, t, text)
  want = theirs.unet(*map(torch_models.to_torch, (x, t, text))).sample
  np.testing.assert_allclose(got, torch_models.from_torch(want), atol=1e-4)

  got = compiled(ours.vae, ours.params["vae"], x, method="decode")
  want = theirs.vae.decode(torch_models.to_torch(x)).sample
  np.testing.assert_allclose(got, torch_models.from_torch(want), atol=2e-4)


@pytest.mark.parametrize("style", list(torch_models.UNETS))
def test_through_a_single_file_and_back(style, tmp_path):
  """Their folder, our single file, our folder: every number is the same."""
  theirs = torch_models.pipeline(style, tmp_path / "tokens")
  theirs.save_pretrained(tmp_path / "theirs")
  single = write.write(
    checkpoint.open_checkpoint(tmp_path / "theirs"),
    tmp_path / "model.safetensors",
    format="safetensors",
  )
  ours = write.write(checkpoint.open_checkpoint(single), tmp_path / "ours")
  again = load_theirs(ours)
  for part in PARTS:
    assert_equal_states(getattr(again, part), getattr(theirs, part))
  for key in ("prediction_type", "timestep_spacing", "rescale_betas_zero_snr"):
    assert again.scheduler.config[key] == theirs.scheduler.config[key]
  text = ["a blue wooden chair"]
  assert again.tokenizer(text) == theirs.tokenizer(text)


def test_their_reader_of_single_files_takes_ours(tmp_path):
  """The names in our single file are the original ones."""
  theirs = torch_models.pipeline("sd1", tmp_path / "tokens")
  theirs.save_pretrained(tmp_path / "theirs")
  single = write.write(
    checkpoint.open_checkpoint(tmp_path / "theirs"),
    tmp_path / "model.safetensors",
    format="safetensors",
  )
  again = diffusers.StableDiffusionPipeline.from_single_file(
    str(single), config=str(tmp_path / "theirs"), local_files_only=True
  )
  for part in PARTS:
    assert_equal_states(getattr(again, part), getattr(theirs, part))


@pytest.mark.parametrize("name", ["float16", "bfloat16"])
def test_half_precision_runs_in_one_type_by_default(model_folders, name):
  """The folder's writer, and the converter, which has other code."""
  home = pathlib.Path(model_folders["image"])
  opened = checkpoint.open_checkpoint(home)
  half = write.write(opened, home.parent / name, dtype=jnp.dtype(name))
  theirs = load_theirs(half)
  assert {getattr(theirs, part).dtype for part in PARTS} == {torch.float32}


def assert_equal_states(got, want):
  got, want = got.state_dict(), want.state_dict()
  assert got.keys() == want.keys()
  for name, value in got.items():
    assert torch.equal(value, want[name]), name


@torch.no_grad()
def test_mvdream_in_their_unet(tmp_path):
  """Its joint attention is a processor of a few lines there."""
  network = unet.UNet(
    block_out_channels=(32, 64),
    layers_per_block=1,
    num_heads=(2, 4),
    attention_levels=(True, False),
    cross_attention_dim=torch_models.WIDTH,
    use_linear_projection=True,
    norm_num_groups=8,
    camera_dim=16,
  )
  shapes = stable_diffusion.abstract_params(
    network, *stable_diffusion.unet_inputs(network)
  )
  params = tiny_models.random_params(shapes, 7)
  config = configs.unet_config(network, sample_size=SIDE)
  folder.write_component(tmp_path, "unet", config=config, params=params)
  theirs = diffusers.UNet2DConditionModel.from_pretrained(tmp_path / "unet")

  count = OBJECTS * VIEWS
  x = torch_models.draw(count, SIDE, SIDE, 4)
  # Views of an object share the time, and no two objects do.
  t = np.repeat(np.float32([20, 700]), VIEWS)
  text = torch_models.draw(count, 5, torch_models.WIDTH, seed=1)
  cameras = torch_models.draw(count, 16, seed=2)
  joint = joint_views.JointViews(
    camera_numbers=jnp.asarray(cameras).reshape(OBJECTS, VIEWS, 16)
  )
  alone = joint.single_view()

  want = {}
  for name in ("alone", "joint"):
    want[name] = torch_models.from_torch(
      theirs(
        *map(torch_models.to_torch, (x, t, text)),
        class_labels=torch_models.to_torch(cameras),
      ).sample
    )
    theirs.set_attn_processor(JointAttention())
  for name, views in {"alone": alone, "joint": joint}.items():
    got = jax.jit(network.apply)(
      {"params": params}, *map(jnp.asarray, (x, t, text)), views
    )
    np.testing.assert_allclose(got, want[name], atol=1e-4)
  assert np.abs(want["joint"] - want["alone"]).max() > 0.01


class JointAttention:
  """Self-attention over the tokens of all views of an object."""

  def __call__(self, attn, hidden_states, encoder_hidden_states=None, **_):
    x, context = hidden_states, encoder_hidden_states
    n, tokens, channels = x.shape
    if context is None:
      x = x.reshape(n // VIEWS, VIEWS * tokens, channels)
      context = x

    def heads(values):
      return values.unflatten(-1, (attn.heads, -1)).transpose(1, 2)

    y = torch.nn.functional.scaled_dot_product_attention(
      heads(attn.to_q(x)),
      heads(attn.to_k(context)),
      heads(attn.to_v(context)),
    )
    y = y.transpose(1, 2).flatten(-2)
    return attn.to_out[0](y).reshape(n, tokens, channels)
