"""Key tables of UNet and VAE, against the published ones of both layouts."""

import flax.traverse_util
import key_tables
import numpy as np
import pytest

from mvjax.models import configs, stable_diffusion
from mvjax.nn import unet
from mvjax.weights import ldm, ldm_config, names
from mvjax.weights import tensors as tensors_lib

UNETS = {
  "mvdream_sd15_unet_vae": "sd15_unet_diffusers",
  "mvdream_sd21_unet_vae": "sd21_unet_diffusers",
  "spad_two_views": "sd15_unet_diffusers",
  "spad_four_views": "sd15_unet_diffusers",
}
CAMERA = {
  f"class_embedding.linear_{layer}.{leaf}"
  for layer in (1, 2)
  for leaf in ("weight", "bias")
}


@pytest.mark.parametrize("old_name, new_name", UNETS.items())
def test_unet_tables_are_one_to_one_and_onto(old_name, new_name):
  old, new = key_tables.tensors(old_name), key_tables.shapes(new_name)
  config = ldm_config.unet_config(old, sample_size=32)
  table = ldm.unet_table(config)
  heads = (ldm.UNET, ldm.RAY_CAMERA)
  assert table.keys() == {key for key in old if key.startswith(heads)}
  assert len(set(table.values())) == len(table)
  assert set(table.values()) == new.keys() | CAMERA
  # A tensor that went to the wrong place would mostly have a wrong shape.
  rays = config.get("ray_channels", 0)
  for old_key, new_key in table.items():
    if new_key in CAMERA:
      continue
    expected = new[new_key]
    if new_key.endswith("proj_in.weight"):
      expected = (expected[0], expected[1] + rays, *expected[2:])
    assert old[old_key].shape == expected, old_key


@pytest.mark.parametrize("old_name", UNETS)
def test_vae_table_is_one_to_one_and_onto(old_name):
  old, new = key_tables.tensors(old_name), key_tables.shapes("vae_diffusers")
  table = ldm.vae_table(ldm_config.vae_config(old, sample_size=256))
  assert table.keys() == {key for key in old if key.startswith(ldm.VAE)}
  assert len(set(table.values())) == len(table)
  assert set(table.values()) == new.keys()
  squeezed = set()
  for old_key, new_key in table.items():
    if old[old_key].shape != new[new_key]:
      assert old[old_key].shape == (*new[new_key], 1, 1)
      squeezed.add(new_key)
  assert squeezed == ldm.POINTWISE


@pytest.mark.parametrize(
  "old, new",
  [
    # The places where the two layouts count differently.
    ("output_blocks.2.1.conv", "up_blocks.0.upsamplers.0.conv"),
    ("output_blocks.5.2.conv", "up_blocks.1.upsamplers.0.conv"),
    ("input_blocks.6.0.op", "down_blocks.1.downsamplers.0.conv"),
    ("input_blocks.11.0.in_layers.2", "down_blocks.3.resnets.1.conv1"),
    ("middle_block.2.out_layers.3", "mid_block.resnets.1.conv2"),
    ("output_blocks.11.1.proj_out", "up_blocks.3.attentions.2.proj_out"),
    (
      "output_blocks.3.0.skip_connection",
      "up_blocks.1.resnets.0.conv_shortcut",
    ),
    ("time_embed.2", "time_embedding.linear_2"),
  ],
)
def test_landmarks_of_the_unet(old, new):
  tensors = key_tables.tensors("mvdream_sd15_unet_vae")
  table = ldm.unet_table(ldm_config.unet_config(tensors, sample_size=32))
  assert table[f"{ldm.UNET}{old}.weight"] == f"{new}.weight"


@pytest.mark.parametrize(
  "old, new",
  [
    ("decoder.up.3.block.0.conv1", "decoder.up_blocks.0.resnets.0.conv1"),
    ("decoder.up.1.upsample.conv", "decoder.up_blocks.2.upsamplers.0.conv"),
    (
      "encoder.down.1.block.0.nin_shortcut",
      "encoder.down_blocks.1.resnets.0.conv_shortcut",
    ),
    ("encoder.mid.block_2.norm2", "encoder.mid_block.resnets.1.norm2"),
  ],
)
def test_landmarks_of_the_vae(old, new):
  tensors = key_tables.tensors("mvdream_sd15_unet_vae")
  table = ldm.vae_table(ldm_config.vae_config(tensors, sample_size=256))
  assert table[f"{ldm.VAE}{old}.weight"] == f"{new}.weight"


@pytest.mark.parametrize(
  "name, expected",
  [
    (
      "mvdream_sd21_unet_vae",
      {
        "attention_head_dim": [5, 10, 20, 20],
        "cross_attention_dim": 1024,
        "use_linear_projection": True,
        "projection_class_embeddings_input_dim": 16,
      },
    ),
    (
      "spad_two_views",
      {
        "_class_name": "SPADUNet",
        "attention_head_dim": [8, 8, 8, 8],
        "cross_attention_dim": 768,
        "use_linear_projection": False,
        "projection_class_embeddings_input_dim": 4,
        "ray_channels": 6,
      },
    ),
    ("spad_four_views", {"projection_class_embeddings_input_dim": 8}),
  ],
)
def test_configs_are_read_from_shapes(name, expected):
  config = ldm_config.unet_config(key_tables.tensors(name), sample_size=32)
  shared = {
    "block_out_channels": [320, 640, 1280, 1280],
    "layers_per_block": 2,
    "in_channels": 4,
    "class_embed_type": "projection",
    "norm_num_groups": 32,
  }
  for key, value in (shared | expected).items():
    assert config[key] == value, key


@pytest.mark.parametrize(
  "fields",
  [
    {
      "block_out_channels": (32, 32, 64),
      "layers_per_block": 1,
      "num_heads": (8, 8, 8),
      "attention_levels": (False, True, False),
    },
    {
      "block_out_channels": (64, 32),
      "layers_per_block": 3,
      "num_heads": (8, 8),
      "attention_levels": (True, False),
      "mid_attention": False,
    },
  ],
)
def test_any_topology_has_a_table_and_shows_in_it(fields):
  """The reference is our module, whose names are diffusers'."""
  module = unet.UNet(cross_attention_dim=16, **fields)
  config = configs.unet_config(module, sample_size=32)
  shapes = stable_diffusion.abstract_params(
    module, *stable_diffusion.unet_inputs(module)
  )
  keys = {
    names.torch_key(path): (leaf.shape[-1:] + leaf.shape[-2:-1])
    + leaf.shape[:-2]
    for path, leaf in flax.traverse_util.flatten_dict(shapes).items()
  }
  table = ldm.unet_table(config)
  assert len(set(table.values())) == len(table)
  assert set(table.values()) == keys.keys()
  tensors = {
    old: tensors_lib.in_memory(np.broadcast_to(np.float32(0), keys[new]))
    for old, new in table.items()
  }
  assert ldm_config.unet_config(tensors, sample_size=32) == config


def test_unreadable_shapes_are_named():
  tensors = key_tables.tensors("mvdream_sd21_unet_vae")
  with pytest.raises(ValueError, match="give head_dim"):
    ldm_config.unet_config(tensors, sample_size=32, head_dim=96)
  short = {k: v for k, v in tensors.items() if ".input_blocks.11." not in k}
  with pytest.raises(ValueError, match=r"\[2, 2, 2, 1\].*whole"):
    ldm_config.unet_config(short, sample_size=32)
  name = f"{ldm.UNET}out.2.weight"
  with pytest.raises(ValueError, match=rf"{name} has shape \(4,\)"):
    bias = tensors[f"{ldm.UNET}out.2.bias"]
    ldm_config.unet_config(tensors | {name: bias}, sample_size=32)
