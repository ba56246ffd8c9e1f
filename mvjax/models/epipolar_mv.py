"""Our multi-view model: a Stable Diffusion with epipolar blocks.

Its folder is that of a 2D model plus `epipolar/`, which holds the weights of
the blocks and of the camera embedding, and a config.json with

  num_levels: of the UNet;
  blocks: by place (`mid_block`, `up_blocks_{i}`) the number of `points` on a
    ray, and `width`, `head_dim` and `num_frequencies` of the block.

So `unet/` alone is an ordinary 2D UNet, which other programs can load.
"""

import dataclasses
import functools
import reprlib
from collections.abc import Mapping, Sequence
from typing import Any

import flax.core
import flax.traverse_util
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from mvjax import compilation, geometry
from mvjax.models import configs, stable_diffusion
from mvjax.nn import camera_features, unet
from mvjax.weights import checkpoint

_BLOCK = ("head_dim", "num_frequencies", "points", "width")
_MOST = 1 << 12
COMPONENT = checkpoint.EPIPOLAR
# What `unet/` lacks: parameters below one of these.
_ADDED = ("epipolar", "camera_embedding")

Config = Mapping[str, Any]


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class EpipolarMultiview(stable_diffusion.FlaxStableDiffusion):
  """All views of an object at once, made consistent by their cameras.

  Attributes:
    epipolar: the config of the `epipolar/` component.
  """

  epipolar: Config

  @classmethod
  def from_checkpoint(
    cls,
    opened: checkpoint.Checkpoint,
    dtype: DTypeLike = jnp.float32,
    *,
    param_dtype: DTypeLike | None = None,
  ) -> "EpipolarMultiview":
    """Builds the networks and reads their parameters.

    See `FlaxStableDiffusion.from_checkpoint`.
    """
    if COMPONENT not in opened.components:
      raise ValueError(
        f"{opened.source} has no {COMPONENT}/: it is a 2D model, or a "
        "multi-view model of another kind"
      )
    base = stable_diffusion.FlaxStableDiffusion.from_checkpoint(
      opened, dtype, param_dtype=param_dtype
    )
    config = opened.components[COMPONENT].config
    network = base.unet.clone(epipolar=blocks_of(opened))
    added = stable_diffusion.read(
      opened,
      COMPONENT,
      shapes=split_params(abstract_params(network, config))[1],
      param_dtype=param_dtype or dtype,
    )
    whole = join_params(base.params["unet"], added)
    fields = {f.name: getattr(base, f.name) for f in dataclasses.fields(base)}
    fields |= {"unet": network, "params": base.params | {"unet": whole}}
    return cls(**fields, epipolar=config)

  def camera_conditioning(
    self, camera: geometry.Camera, height: int, width: int
  ) -> camera_features.CameraFeatures:
    """Epipolar geometry of cameras [b, v] for latents of this size."""
    return self._features_fn(camera, size=(height, width))

  @functools.cached_property
  def _features_fn(self) -> Any:
    """Compiled `features`: its hundreds of small operations are slow alone."""
    fun = functools.partial(features, config=self.epipolar)
    return jax.jit(fun, static_argnames="size")


def blocks_of(opened: checkpoint.Checkpoint) -> flax.core.FrozenDict[str, Any]:
  """`block_fields` of a model's files.

  Raises:
    ValueError: their config is malformed; names them.
  """
  config = opened.components[COMPONENT].config
  try:
    levels = configs.whole(config, "num_levels", most=configs.MOST_LEVELS)
    blocks = config.get("blocks")
    if not isinstance(blocks, dict) or not blocks:
      raise ValueError(f"config.json: blocks={reprlib.repr(blocks)}: has none")
    for place, block in blocks.items():
      if not isinstance(block, dict) or sorted(block) != list(_BLOCK):
        raise ValueError(
          f"config.json: blocks: {place[:40]} must have {', '.join(_BLOCK)}"
        )
      for key in _BLOCK:
        configs.whole(block, key, most=_MOST)
      if not 0 <= _level(place, levels) < levels:
        raise ValueError(f"config.json: blocks: no place {place[:40]}")
    return block_fields(config)
  except ValueError as error:
    raise ValueError(f"{opened.source}: {COMPONENT}/: {error}") from error


def block_fields(config: Config) -> flax.core.FrozenDict[str, Any]:
  """`UNet.epipolar` of a component's config; frozen, so that UNets hash.

  How maps are sampled and cut up changes speed and memory, not the result.
  """
  execution = {
    "tpu": {"sampler": "hat", "chunk": 128},
    "cpu": {"sampler": "gather", "chunk": 16},
  }.get(compilation.platform(), {"sampler": "gather", "chunk": 256})
  return flax.core.freeze(
    {
      place: execution
      | {name: value for name, value in block.items() if name != "points"}
      for place, block in config["blocks"].items()
    }
  )


def features(
  camera: geometry.Camera,
  size: tuple[int, int],
  *,
  config: Config,
  offsets: Mapping[tuple[int, int], Float[Array, "b v _ _ _"]] | None = None,
) -> camera_features.CameraFeatures:
  """Camera features of every block, for latents of a size.

  Args:
    camera: [b, v].
    size: (height, width) of the latents.
    config: of the component.
    offsets: by map size (`levels` lists them), places of the points in
      their pieces; for training.
  """
  points = levels(config, size)
  return camera_features.camera_features(
    camera,
    tuple(points),
    points=tuple(points.values()),
    offsets=None if offsets is None else [offsets[key] for key in points],
  )


def levels(config: Config, size: tuple[int, int]) -> dict[tuple[int, int], int]:
  """Size of the maps that blocks work on, and their points on a ray.

  Raises:
    ValueError: two places with maps of one size differ in their points.
  """
  points: dict[tuple[int, int], int] = {}
  for place, block in config["blocks"].items():
    factor = 2 ** _level(place, config["num_levels"])
    key = size[0] // factor, size[1] // factor
    if points.setdefault(key, block["points"]) != block["points"]:
      raise ValueError(
        f"epipolar: {place} has points={block['points']}, another place with "
        f"maps of {key} has {points[key]}; they must be equal"
      )
  return points


def component_config(
  points: Mapping[str, int],
  *,
  block_out_channels: Sequence[int],
  width: int,
  head_dim: int,
  num_frequencies: int = 6,
) -> dict[str, Any]:
  """config.json of the component, from the points on a ray at each place.

  Args:
    points: by place.
    block_out_channels: of the UNet, finest level first.
    width: of the blocks, where the maps have as many channels.
    head_dim: of the blocks.
    num_frequencies: of the blocks.
  """
  num_levels = len(block_out_channels)
  return {
    "_class_name": "EpipolarAdapter",
    "num_levels": num_levels,
    "blocks": {
      place: {
        "points": count,
        "width": min(width, block_out_channels[_level(place, num_levels)]),
        "head_dim": head_dim,
        "num_frequencies": num_frequencies,
      }
      for place, count in points.items()
    },
  }


def _level(place: str, num_levels: int) -> int:
  """Level of the maps at a place, 0 the finest."""
  up = 0 if place == "mid_block" else int(place.rpartition("_")[2])
  return num_levels - 1 - up


def split_params(params: Any) -> tuple[dict[str, Any], dict[str, Any]]:
  """A multi-view UNet's parameters for `unet/` and for `epipolar/`."""
  flat = flax.traverse_util.flatten_dict(params)
  added = {k: v for k, v in flat.items() if set(k) & set(_ADDED)}
  plain = {k: v for k, v in flat.items() if k not in added}
  return (
    flax.traverse_util.unflatten_dict(plain),
    flax.traverse_util.unflatten_dict(added),
  )


def join_params(plain: Any, added: Any) -> dict[str, Any]:
  """Inverse of `split_params`."""
  flat = flax.traverse_util.flatten_dict(plain)
  return flax.traverse_util.unflatten_dict(
    flat | flax.traverse_util.flatten_dict(added)
  )


def abstract_params(network: unet.UNet, config: Config) -> Any:
  """Shapes of a multi-view UNet's parameters."""
  x, t, text, _ = stable_diffusion.unet_inputs(network)
  camera = geometry.orbit(
    azimuth=np.zeros((1, 1)),
    elevation=0.0,
    distance=3.0,
    field_of_view=0.7,
    xnp=np,
  )

  cameras = jax.eval_shape(
    functools.partial(features, size=(x.shape[1], x.shape[2]), config=config),
    camera,
  )
  return stable_diffusion.abstract_params(network, x, t, text, cameras)
