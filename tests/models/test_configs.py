"""Config mappings: both ways, and what they refuse."""

import golden_weights
import jax.numpy as jnp
import pytest

from mvjax.models import configs
from mvjax.nn import text_encoder, unet, vae

MODULES = {
  "unet": unet.UNet(
    block_out_channels=(64, 128, 192),
    layers_per_block=1,
    num_heads=(2, 4, 6),
    attention_levels=(True, True, False),
    cross_attention_dim=128,
    in_channels=8,
    out_channels=8,
    use_linear_projection=True,
  ),
  "unet_without_middle": unet.UNet(mid_attention=False),
  "mvdream": unet.UNet(use_linear_projection=True, camera_dim=16),
  "spad": unet.UNet(camera_dim=8, ray_channels=6),
  "vae": vae.VAE((16, 32, 64, 128), 1, 8, norm_num_groups=8),
  "text": text_encoder.TextEncoder(num_layers=4, activation="gelu"),
}


def _config(module):
  if isinstance(module, unet.UNet):
    return configs.unet_config(module, sample_size=16)
  if isinstance(module, vae.VAE):
    return configs.vae_config(module, sample_size=128, scaling_factor=0.5)
  return configs.text_encoder_config(
    module, bos_token_id=1, eos_token_id=2, pad_token_id=0
  )


@pytest.mark.parametrize("name", list(MODULES))
def test_a_module_survives_its_config(name):
  read = {
    unet.UNet: configs.unet_from_config,
    vae.VAE: configs.vae_from_config,
    text_encoder.TextEncoder: configs.text_encoder_from_config,
  }[type(MODULES[name])]
  assert read(_config(MODULES[name])) == MODULES[name]
  assert read(_config(MODULES[name]), dtype=jnp.bfloat16).dtype == jnp.bfloat16


def test_written_keys_are_those_of_the_libraries():
  """Every key of a golden's constructor arguments that we need is written."""
  for name, module in (("vae", "vae"), ("unet", "sd21_unet")):
    given = golden_weights.Golden(module).config[name]
    assert set(given) <= set(_config(MODULES[name]))
  text = golden_weights.Golden("clip_text_sd15").config["text"]
  assert set(text) <= set(_config(MODULES["text"]))


def test_the_unet_config_tells_the_models_apart():
  """diffusers' own class reads MVDream; what it cannot be, has another name."""
  mvdream, spad = (_config(MODULES[name]) for name in ("mvdream", "spad"))
  assert mvdream["_class_name"] == "UNet2DConditionModel"
  assert mvdream["class_embed_type"] == spad["class_embed_type"] == "projection"
  assert mvdream["projection_class_embeddings_input_dim"] == 16
  assert spad["_class_name"] == "SPADUNet" and spad["ray_channels"] == 6
  assert not {"class_embed_type", "ray_channels"} & set(
    _config(MODULES["unet"])
  )
  kept = configs.unet_from_config(spad | {"mask_resize": "geometric"})
  assert kept == MODULES["spad"]


def test_full_published_config_is_read():
  """Keys that diffusers writes with their switched-off values do no harm."""
  config = _config(MODULES["unet"]) | {
    "_diffusers_version": "0.39.0",
    "addition_embed_type": None,
    "addition_embed_type_num_heads": 64,
    "class_embed_type": None,
    "dropout": 0.0,
    "dual_cross_attention": False,
    "upcast_attention": True,
    "downsample_padding": 1,
  }
  assert configs.unet_from_config(config) == MODULES["unet"]


@pytest.mark.parametrize(
  "read, config, key",
  [
    ("unet", {"act_fn": "gelu"}, "act_fn='gelu'"),
    ("unet", {"class_embed_type": "timestep"}, "class_embed_type"),
    ("unet", {"class_embed_type": "projection"}, "class_embeddings_input_dim"),
    ("unet", {"transformer_layers_per_block": 2}, "transformer_layers"),
    ("unet", {"down_block_types": ["AttnDownBlock2D"]}, "down_block_types"),
    ("unet", {"up_block_types": ["UpBlock2D"] * 3}, "up_block_types"),
    ("unet", {"mid_block_type": None}, "mid_block_type=None"),
    ("unet", {"block_out_channels": None}, "block_out_channels"),
    ("vae", {"use_quant_conv": False}, "use_quant_conv"),
    ("vae", {"shift_factor": 0.1}, "shift_factor"),
    ("text", {"hidden_act": "relu"}, "hidden_act"),
    ("text", {"layer_norm_eps": 1e-6}, "layer_norm_eps"),
  ],
)
def test_what_cannot_be_represented_is_named(read, config, key):
  reader = {
    "unet": configs.unet_from_config,
    "vae": configs.vae_from_config,
    "text": configs.text_encoder_from_config,
  }[read]
  with pytest.raises(ValueError, match=f"config.json.*{key}|{key}"):
    reader(_config(MODULES[read]) | config)
