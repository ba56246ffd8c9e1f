"""Flax folders that diffusers and transformers write."""

import diffusers
import flax.traverse_util
import jax
import numpy as np
import pytest
import tiny_models
import transformers

from mvjax.models import loading

UNET = {
  "sample_size": 8,
  "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
  "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
  "block_out_channels": (32, 64),
  "layers_per_block": 1,
  "attention_head_dim": 4,
  "cross_attention_dim": 16,
}
VAE = {
  "block_out_channels": (32, 64),
  "down_block_types": ("DownEncoderBlock2D",) * 2,
  "up_block_types": ("UpDecoderBlock2D",) * 2,
}
TEXT = {
  "hidden_size": 16,
  "intermediate_size": 32,
  "num_hidden_layers": 2,
  "num_attention_heads": 2,
  "hidden_act": "gelu",
}


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
  """A folder that their `save_pretrained` wrote, and its parameters."""
  diffusers.logging.set_verbosity_error()
  transformers.logging.set_verbosity_error()
  home = tmp_path_factory.mktemp("flax")
  networks = {
    "unet": diffusers.FlaxUNet2DConditionModel(**UNET),
    "vae": diffusers.FlaxAutoencoderKL(**VAE),
  }
  encoder = transformers.FlaxCLIPTextModel(
    transformers.CLIPTextConfig(**TEXT), _do_init=False
  )
  shapes = {
    name: jax.eval_shape(network.init_weights, jax.random.key(0))
    for name, network in networks.items()
  }
  shapes["text_encoder"] = encoder.params_shape_tree
  params = {
    name: tiny_models.random_params(tree, seed)
    for seed, (name, tree) in enumerate(shapes.items())
  }
  for name, network in (networks | {"text_encoder": encoder}).items():
    network.save_pretrained(home / name, params=params[name])
  diffusers.FlaxDDIMScheduler(clip_sample=False).save_pretrained(
    home / "scheduler"
  )
  return home, params


def test_their_folder_is_read(saved):
  home, params = saved
  model = loading.load(home)
  # Their names of what is named differently.
  theirs = {
    "to_q": "query",
    "to_k": "key",
    "to_v": "value",
    "to_out_0": "proj_attn",
    "layers_0": ("layers", "0"),
    "layers_1": ("layers", "1"),
  }
  for name, tree in params.items():
    wanted = flax.traverse_util.flatten_dict(tree)
    found = flax.traverse_util.flatten_dict(model.params[name])
    assert len(found) == len(wanted)
    for path, value in found.items():
      their_path = []
      for part in path:
        other = part if name == "unet" else theirs.get(part, part)
        their_path += [other] if isinstance(other, str) else other
      np.testing.assert_array_equal(
        value, wanted[tuple(their_path)], err_msg="/".join(path)
      )
  # CLIP's tokens are ours where a folder has none, with OpenCLIP's padding.
  assert model.tokenizer.vocab_size == 49408
  assert model.tokenizer.pad_id == 0
