"""The models of a run: networks from the config, weights new or from a folder.

The config decides the architecture; a folder of another one is an error. What
is read stays in host memory, what is new is made on the default device.
"""

import pathlib
import reprlib
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from mvjax import atomic, diffusion, geometry, tokenizer
from mvjax.models import configs, epipolar_mv, stable_diffusion
from mvjax.nn import text_encoder, unet, vae
from mvjax.weights import checkpoint, write
from mvjax.weights import folder as folders

# One stream of initial weights per network.
_INIT = {"vae": 0, "unet": 1, "text_encoder": 2, "epipolar": 3}

# Fields that decide a noise table.
_TABLE = (
  "num_train_timesteps",
  "beta_schedule",
  "beta_start",
  "beta_end",
  "trained_betas",
  "rescale_betas_zero_snr",
)


def vae_module(config: ml_collections.ConfigDict) -> vae.VAE:
  """The autoencoder of the config."""
  fields = {**config.vae}
  widths = tuple(fields.pop("block_out_channels"))
  return vae.VAE(block_out_channels=widths, dtype=config.train.dtype, **fields)


def vae_params(config: ml_collections.ConfigDict) -> dict[str, Any]:
  """The autoencoder's parameters: new, or those of `train.init_from`."""
  folder = config.train.init_from
  image = jnp.zeros((1, 32, 32, 3))
  if not folder:
    return _new(config, "vae", module=vae_module(config), inputs=(image,))
  return _read(
    folder,
    "vae",
    module=vae_module(config),
    from_config=configs.vae_from_config,
    inputs=(image,),
  )


def image_model(
  config: ml_collections.ConfigDict, tokens: tokenizer.Tokenizer
) -> tuple[stable_diffusion.FlaxStableDiffusion, dict[str, Any]]:
  """The 2D model and its parameters (`unet`, `text_encoder`, `vae`).

  The autoencoder comes from `train.init_from`; so do UNet and text encoder
  where that folder has them, and are new otherwise.
  """
  home = pathlib.Path(config.train.init_from)
  autoencoder = vae_module(config)
  fields = {**config.unet}
  for name in ("block_out_channels", "num_heads", "attention_levels"):
    fields[name] = tuple(fields[name])
  network = unet.UNet(
    in_channels=autoencoder.latent_channels,
    out_channels=autoencoder.latent_channels,
    remat=config.train.remat,
    dtype=config.train.dtype,
    **fields,
  )
  text = config.text_encoder
  encoder = text_encoder.TextEncoder(
    vocab_size=tokens.vocab_size,
    max_length=tokens.length,
    hidden_size=text.hidden_size,
    intermediate_size=text.intermediate_size,
    num_layers=text.num_hidden_layers,
    num_heads=text.num_attention_heads,
    activation=text.hidden_act,
    dtype=config.train.dtype,
  )
  if config.train.init_from and (home / "unet").is_dir():
    _check_schedule(config)
  ids = jnp.zeros((1, tokens.length), jnp.int32)
  parts = {
    "unet": (
      network,
      configs.unet_from_config,
      stable_diffusion.unet_inputs(network),
    ),
    "text_encoder": (encoder, configs.text_encoder_from_config, (ids,)),
  }
  params = {"vae": vae_params(config)}
  for name, (module, from_config, inputs) in parts.items():
    if config.train.init_from and (home / name).is_dir():
      params[name] = _read(
        home, name, module=module, from_config=from_config, inputs=inputs
      )
    else:
      params[name] = _new(config, name, module=module, inputs=inputs)
  factor = 2 ** (len(autoencoder.block_out_channels) - 1)
  model = stable_diffusion.FlaxStableDiffusion(
    name=config.task,
    unet=network,
    vae=autoencoder,
    text_encoder=encoder,
    tokenizer=tokens,
    schedule=diffusion.NoiseSchedule.from_config(config.schedule.to_dict()),
    scaling_factor=scaling_factor(config),
    latent_size=config.data.image_size // factor,
    params=None,
  )
  return model, params


def multiview_model(
  config: ml_collections.ConfigDict, tokens: tokenizer.Tokenizer
) -> tuple[epipolar_mv.EpipolarMultiview, dict[str, Any]]:
  """The multi-view model and its parameters, from `train.init_from`.

  Epipolar blocks and camera embedding are new where that folder has none.
  """
  home = pathlib.Path(config.train.init_from)
  if config.train.init_from:
    for name in ("unet", "text_encoder"):
      folders.read_config(home, name)  # its error says what is missing
  base, params = image_model(config, tokens)
  wanted = epipolar_mv.component_config(
    config.epipolar.points.to_dict(),
    block_out_channels=base.unet.block_out_channels,
    width=config.epipolar.width,
    head_dim=config.epipolar.head_dim,
    num_frequencies=config.epipolar.num_frequencies,
  )
  network = base.unet.clone(epipolar=epipolar_mv.block_fields(wanted))
  shapes = epipolar_mv.split_params(
    epipolar_mv.abstract_params(network, wanted)
  )[1]
  if config.train.init_from and (home / epipolar_mv.COMPONENT).is_dir():
    part = home / epipolar_mv.COMPONENT
    found = folders.read_component(home, epipolar_mv.COMPONENT)
    _same(found.config, wanted, source=part)
    added = checkpoint.read_arrays(found, shapes, source=str(part))
  else:
    added = _new(
      config,
      "epipolar",
      module=network,
      inputs=_multiview_inputs(network, wanted),
      select=lambda params: epipolar_mv.split_params(params)[1],
    )
  params["unet"] = epipolar_mv.join_params(params["unet"], added)
  fields = {**vars(base), "unet": network}
  return epipolar_mv.EpipolarMultiview(**fields, epipolar=wanted), params


def write_model(
  folder: str | pathlib.Path,
  model: stable_diffusion.FlaxStableDiffusion,
  *,
  params: Mapping[str, Any],
  dtype: Any,
) -> None:
  """Writes a model, with all its components, in diffusers layout."""
  home = pathlib.Path(folder)
  tokens = model.tokenizer
  side = model.latent_size
  plain, added = params["unet"], {}
  if isinstance(model, epipolar_mv.EpipolarMultiview):
    plain, added = epipolar_mv.split_params(plain)
  factor = 2 ** (len(model.vae.block_out_channels) - 1)
  contents = {
    "unet": (configs.unet_config(model.unet, sample_size=side), plain),
    "vae": (
      configs.vae_config(
        model.vae,
        sample_size=factor * side,
        scaling_factor=model.scaling_factor,
      ),
      params["vae"],
    ),
    "text_encoder": (
      configs.text_encoder_config(
        model.text_encoder,
        bos_token_id=tokens.start_id,
        eos_token_id=tokens.end_id,
        pad_token_id=tokens.pad_id,
      ),
      params["text_encoder"],
    ),
  }
  if isinstance(model, epipolar_mv.EpipolarMultiview):
    contents[epipolar_mv.COMPONENT] = (model.epipolar, added)
  for name, (config, weights) in contents.items():
    folders.write_component(
      home, name, config=config, params=weights, dtype=dtype
    )
  # In place of links too, through which another model would be changed.
  with atomic.replaced(home / "tokenizer") as new:
    tokens.save(new)
  with atomic.replaced(home / "scheduler") as new:
    new.mkdir()
    folders.write_json(
      new / "scheduler_config.json", model.schedule.to_config()
    )
  index = write.model_index(contents["unet"][0])
  folders.write_json(home / "model_index.json", index)


def _check_schedule(config: ml_collections.ConfigDict) -> None:
  """Raises ValueError if the folder's UNet predicts or is asked otherwise.

  It would unlearn what it knows, and the loss would hide it.
  """
  home = pathlib.Path(config.train.init_from)
  found = diffusion.NoiseSchedule.from_config(
    folders.read_json(home / "scheduler/scheduler_config.json")
  )
  wanted = diffusion.NoiseSchedule.from_config(config.schedule.to_dict())
  names = ["prediction_type"]
  # A table may be described in several ways.
  tables = found.alphas_cumprod, wanted.alphas_cumprod
  if len(tables[0]) != len(tables[1]) or not np.allclose(*tables, rtol=1e-4):
    names += _TABLE
  differing = [
    f"{name}={reprlib.repr(one)} (there {reprlib.repr(other)})"
    for name in names
    if (one := getattr(wanted, name)) != (other := getattr(found, name))
  ]
  if differing:
    raise ValueError(
      f"config: schedule.{', '.join(differing)} is not that of the model in "
      f"train.init_from={home}; set the same, or change its "
      "scheduler_config.json if it is to learn anew"
    )


def scaling_factor(config: ml_collections.ConfigDict) -> float:
  """What the latents of the autoencoder in `train.init_from` are multiplied by.

  Folders of SD 1.x do not say it.
  """
  found = {}
  if config.train.init_from:
    found = folders.read_config(config.train.init_from, "vae")
  return found.get("scaling_factor", stable_diffusion.SCALING_FACTOR)


def _new(
  config: ml_collections.ConfigDict,
  name: str,
  *,
  module: nn.Module,
  inputs: tuple[Any, ...],
  select: Callable[[Any], Any] = lambda params: params,
) -> dict[str, Any]:
  """New parameters of a network, or some of them, from the run's seed.

  What is not selected costs no compilation.
  """
  key = jax.random.fold_in(jax.random.key(config.seed), _INIT[name])
  return jax.jit(lambda *args: select(module.init(*args)["params"]))(
    key, *inputs
  )


def _read(
  home: str | pathlib.Path,
  name: str,
  *,
  module: nn.Module,
  from_config: Callable[[Any], nn.Module],
  inputs: tuple[Any, ...],
) -> dict[str, Any]:
  """Parameters of a component that must be of the given architecture."""
  part = pathlib.Path(home) / name
  found = folders.read_component(home, name)
  _same(_fields(from_config(found.config)), _fields(module), source=part)
  shapes = stable_diffusion.abstract_params(module, *inputs)
  return checkpoint.read_arrays(found, shapes, source=str(part))


def _fields(module: nn.Module) -> dict[str, Any]:
  """The fields that decide what a network computes."""
  others = ("parent", "name", "dtype", "remat")
  return {
    k: v for k, v in vars(module).items() if k[0] != "_" and k not in others
  }


def _same(found: Any, wanted: Any, *, source: pathlib.Path) -> None:
  """Raises ValueError naming the fields in which two architectures differ."""
  differing = [
    f"{name}={found.get(name)!r}, not {wanted.get(name)!r}"
    for name in sorted(found.keys() | wanted.keys())
    if found.get(name) != wanted.get(name)
  ]
  if differing:
    raise ValueError(
      f"train.init_from: {source} has {'; '.join(differing)} as the config "
      "wants; change the config or choose another folder"
    )


def _multiview_inputs(network: unet.UNet, config: Mapping[str, Any]) -> Any:
  """The smallest inputs of a multi-view UNet."""
  inputs = stable_diffusion.unet_inputs(network)
  camera = geometry.orbit(
    azimuth=np.zeros((1, 1), np.float32),
    elevation=0.0,
    distance=3.0,
    field_of_view=0.7,
  )
  size = inputs[0].shape[1:3]
  return *inputs[:3], epipolar_mv.features(camera, size, config=config)
