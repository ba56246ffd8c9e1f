"""Our modules to and from the config.json of diffusers and transformers.

A folder written with these mappings loads in PyTorch as UNet2DConditionModel,
AutoencoderKL and CLIPTextModel, but for a UNet with rays: that is an
`SPADUNet`, which the libraries do not have, with the key `ray_channels`. A
value that our modules cannot represent is a ValueError that names its key.
"""

import reprlib
from collections.abc import Iterable, Mapping
from typing import Any

import jax.numpy as jnp
from jax.typing import DTypeLike

from mvjax.nn import text_encoder, unet, vae

Config = Mapping[str, Any]

# What our modules are, where the file could say otherwise.
_UNET_FIXED = {
  "act_fn": ("silu", "swish"),
  "attention_type": ("default",),
  "class_embed_type": (None, "projection"),
  "conv_in_kernel": (3,),
  "conv_out_kernel": (3,),
  "downsample_padding": (1,),
  "flip_sin_to_cos": (True,),
  "mid_block_scale_factor": (1,),
  "norm_eps": (1e-5,),
  "resnet_out_scale_factor": (1, 1.0),
  "resnet_time_scale_shift": ("default",),
  "time_embedding_type": ("positional",),
  "transformer_layers_per_block": (1,),
}
_VAE_FIXED = {
  "act_fn": ("silu", "swish"),
  "in_channels": (3,),
  "mid_block_add_attention": (True,),
  "out_channels": (3,),
  "use_post_quant_conv": (True,),
  "use_quant_conv": (True,),
}
_TEXT_FIXED = {"layer_norm_eps": (1e-5,)}
# None changes the network: sizes of the training images, precision modes, a
# size of an embedding that must be off, and the latent scale and mask resize,
# which the models read for themselves.
_IGNORED = (
  "addition_embed_type_num_heads",
  "force_upcast",
  "mask_resize",
  "sample_size",
  "scaling_factor",
  "upcast_attention",
)

# Far beyond those of published networks: more would be traced for hours.
_MOST_LAYERS = 128
MOST_LEVELS = 8
_MOST_TOKENS = 1 << 24

_MID_BLOCKS = {"UNetMidBlock2DCrossAttn": True, "UNetMidBlock2D": False}
_DOWN_BLOCKS = {"CrossAttnDownBlock2D": True, "DownBlock2D": False}
_UP_BLOCKS = {"CrossAttnUpBlock2D": True, "UpBlock2D": False}


def unet_from_config(
  config: Config,
  *,
  epipolar: Mapping[str, Mapping[str, Any]] | None = None,
  dtype: DTypeLike = jnp.float32,
) -> unet.UNet:
  """The module of a UNet2DConditionModel or SPADUNet config.

  `attention_head_dim` there is the number of heads, and a class embedding of
  type 'projection' is the camera embedding of a joint-attention model.

  Raises:
    ValueError: the config describes another network.
  """
  _check(
    config,
    fixed=_UNET_FIXED,
    read=(
      "attention_head_dim",
      "block_out_channels",
      "cross_attention_dim",
      "down_block_types",
      "in_channels",
      "layers_per_block",
      "mid_block_type",
      "norm_num_groups",
      "num_attention_heads",
      "out_channels",
      "projection_class_embeddings_input_dim",
      "ray_channels",
      "up_block_types",
      "use_linear_projection",
    ),
  )
  widths = _widths(config)
  key = "attention_head_dim"
  if config.get("num_attention_heads") is not None:
    key = "num_attention_heads"
  heads = _get(config, key)
  if not isinstance(heads, list):
    heads = [whole(config, key)] * len(widths)
  heads = tuple(whole({key: number}, key) for number in heads)
  attention_levels = _types(config, "down_block_types", _DOWN_BLOCKS)
  if _types(config, "up_block_types", _UP_BLOCKS) != attention_levels[::-1]:
    raise ValueError(
      f"up_block_types={reprlib.repr(config['up_block_types'])} do not mirror "
      "down_block_types: attention must be on the same levels of both"
    )
  middle = config.get("mid_block_type", "UNetMidBlock2DCrossAttn")
  camera_dim = None
  if config.get("class_embed_type") == "projection":
    camera_dim = whole(config, "projection_class_embeddings_input_dim")
  return unet.UNet(
    block_out_channels=widths,
    layers_per_block=whole(config, "layers_per_block", most=_MOST_LAYERS),
    num_heads=heads,
    attention_levels=attention_levels,
    mid_attention=_choose("mid_block_type", middle, _MID_BLOCKS),
    cross_attention_dim=whole(config, "cross_attention_dim"),
    use_linear_projection=config.get("use_linear_projection", False),
    norm_num_groups=whole(config, "norm_num_groups"),
    in_channels=whole(config, "in_channels"),
    out_channels=whole(config, "out_channels"),
    epipolar=epipolar,
    camera_dim=camera_dim,
    ray_channels=whole(config, "ray_channels")
    if config.get("ray_channels")
    else 0,
    dtype=dtype,
  )


def unet_config(module: unet.UNet, *, sample_size: int) -> dict[str, Any]:
  """The config of the module, without epipolar blocks, at latents of a side."""
  levels = module.attention_levels
  class_name, added = "UNet2DConditionModel", {}
  if module.camera_dim is not None:
    added |= {
      "class_embed_type": "projection",
      "projection_class_embeddings_input_dim": module.camera_dim,
    }
  if module.ray_channels:
    class_name, added = (
      "SPADUNet",
      added | {"ray_channels": module.ray_channels},
    )
  return {
    "_class_name": class_name,
    "act_fn": "silu",
    "attention_head_dim": list(module.num_heads),
    "block_out_channels": list(module.block_out_channels),
    "cross_attention_dim": module.cross_attention_dim,
    "down_block_types": _spell(levels, _DOWN_BLOCKS),
    "flip_sin_to_cos": True,
    "freq_shift": 0,
    "in_channels": module.in_channels,
    "layers_per_block": module.layers_per_block,
    "mid_block_type": _spell([module.mid_attention], _MID_BLOCKS)[0],
    "norm_eps": 1e-5,
    "norm_num_groups": module.norm_num_groups,
    "out_channels": module.out_channels,
    "sample_size": sample_size,
    "up_block_types": _spell(reversed(levels), _UP_BLOCKS),
    "use_linear_projection": module.use_linear_projection,
    **added,
  }


def vae_from_config(
  config: Config, *, dtype: DTypeLike = jnp.float32
) -> vae.VAE:
  """The module of an AutoencoderKL config.

  Raises:
    ValueError: the config describes another network.
  """
  _check(
    config,
    fixed=_VAE_FIXED,
    read=(
      "block_out_channels",
      "down_block_types",
      "latent_channels",
      "layers_per_block",
      "norm_num_groups",
      "up_block_types",
    ),
  )
  _types(config, "down_block_types", {"DownEncoderBlock2D": True})
  _types(config, "up_block_types", {"UpDecoderBlock2D": True})
  return vae.VAE(
    block_out_channels=_widths(config),
    layers_per_block=whole(config, "layers_per_block", most=_MOST_LAYERS),
    latent_channels=whole(config, "latent_channels"),
    norm_num_groups=whole(config, "norm_num_groups"),
    dtype=dtype,
  )


def vae_config(
  module: vae.VAE, *, sample_size: int, scaling_factor: float
) -> dict[str, Any]:
  """The config of the module for images of this side.

  `scaling_factor` is what models multiply its latents by.
  """
  levels = len(module.block_out_channels)
  return {
    "_class_name": "AutoencoderKL",
    "act_fn": "silu",
    "block_out_channels": list(module.block_out_channels),
    "down_block_types": ["DownEncoderBlock2D"] * levels,
    "in_channels": 3,
    "latent_channels": module.latent_channels,
    "layers_per_block": module.layers_per_block,
    "norm_num_groups": module.norm_num_groups,
    "out_channels": 3,
    "sample_size": sample_size,
    "scaling_factor": scaling_factor,
    "up_block_types": ["UpDecoderBlock2D"] * levels,
  }


def text_encoder_from_config(
  config: Config, *, dtype: DTypeLike = jnp.float32
) -> text_encoder.TextEncoder:
  """The module of a CLIPTextModel config.

  transformers writes dozens of keys that do not concern the network, so only
  those that do are looked at.

  Raises:
    ValueError: the config describes another network.
  """
  for key, allowed in _TEXT_FIXED.items():
    _require(key, config.get(key, allowed[0]), allowed)
  activation = config.get("hidden_act", "quick_gelu")
  _require("hidden_act", activation, tuple(text_encoder.ACTIVATIONS))
  width, heads = (
    whole(config, name) for name in ("hidden_size", "num_attention_heads")
  )
  if width % heads:
    raise ValueError(
      f"num_attention_heads={heads}: must divide hidden_size={width}"
    )
  return text_encoder.TextEncoder(
    vocab_size=whole(config, "vocab_size", most=_MOST_TOKENS),
    max_length=whole(config, "max_position_embeddings", most=_MOST_TOKENS),
    hidden_size=width,
    intermediate_size=whole(config, "intermediate_size"),
    num_layers=whole(config, "num_hidden_layers", most=_MOST_LAYERS),
    num_heads=heads,
    activation=activation,
    dtype=dtype,
  )


def text_encoder_config(
  module: text_encoder.TextEncoder,
  *,
  bos_token_id: int,
  eos_token_id: int,
  pad_token_id: int,
) -> dict[str, Any]:
  """The config of the module, with the ids its tokenizer uses."""
  return {
    "architectures": ["CLIPTextModel"],
    "bos_token_id": bos_token_id,
    "eos_token_id": eos_token_id,
    "hidden_act": module.activation,
    "hidden_size": module.hidden_size,
    "intermediate_size": module.intermediate_size,
    "layer_norm_eps": 1e-5,
    "max_position_embeddings": module.max_length,
    "model_type": "clip_text_model",
    "num_attention_heads": module.num_heads,
    "num_hidden_layers": module.num_layers,
    "pad_token_id": pad_token_id,
    "projection_dim": module.hidden_size,
    "vocab_size": module.vocab_size,
  }


def _check(
  config: Config, *, fixed: Mapping[str, tuple], read: Iterable[str]
) -> None:
  """Every key is read, fixed, ignored or switched off."""
  for key, value in config.items():
    if key in fixed:
      _require(key, value, fixed[key])
    elif key not in read and key not in _IGNORED and key[0] != "_":
      _require(key, value, (None, False, 0))


def _require(key: str, value: Any, allowed: tuple) -> None:
  if value not in allowed:
    raise ValueError(
      f"config.json: {key}={reprlib.repr(value)} is not supported: must be "
      f"{' or '.join(map(repr, allowed))}"
    )


def whole(config: Config, key: str, *, most: int = 1 << 16) -> int:
  """A size from 1 to `most`, which bounds what is built before it is compared.

  Raises:
    ValueError: it is absent or anything else; names the key.
  """
  value = _get(config, key)
  if type(value) is not int or not 1 <= value <= most:
    raise ValueError(
      f"config.json: {key}={reprlib.repr(value)}: must be a whole number from "
      f"1 to {most}"
    )
  return value


def positive(config: Config, key: str, default: float) -> float:
  """A finite number above 0; ValueError names the key."""
  value = config.get(key, default)
  if type(value) not in (int, float) or not 0 < value < 1e30:
    raise ValueError(
      f"config.json: {key}={reprlib.repr(value)}: must be a number above 0"
    )
  return float(value)


def _widths(config: Config) -> tuple[int, ...]:
  key = "block_out_channels"
  values = _get(config, key)
  if not isinstance(values, list) or not 1 <= len(values) <= MOST_LEVELS:
    raise ValueError(
      f"config.json: {key}={reprlib.repr(values)}: must be a list of 1 to "
      f"{MOST_LEVELS} widths"
    )
  return tuple(whole({key: width}, key) for width in values)


def _get(config: Config, key: str) -> Any:
  if config.get(key) is None:
    raise ValueError(f"config.json has no {key}: is it of another model?")
  return config[key]


def _choose(key: str, value: Any, choices: Mapping[str, bool]) -> bool:
  _require(key, value, tuple(choices))
  return choices[value]


def _types(
  config: Config, key: str, choices: Mapping[str, bool]
) -> tuple[bool, ...]:
  """Whether each level's block has attention."""
  return tuple(_choose(key, value, choices) for value in _get(config, key))


def _spell(attends: Iterable[bool], choices: Mapping[str, bool]) -> list[str]:
  names = {value: name for name, value in choices.items()}
  return [names[value] for value in attends]
