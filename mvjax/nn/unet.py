"""The Stable Diffusion UNet, alone or over the views of an asset.

Without cameras it is diffusers' UNet2DConditionModel, parameter names
included, for SD 1.x (fixed number of heads, convolution projections) and
SD 2.x (fixed head width, linear projections). Norms use epsilon 1e-5, those
of the spatial transformers 1e-6.

With cameras it is a multi-view network over batches of n = b v maps, the view
index fast, in one of two kinds. Epipolar Consistency Blocks beside the
transformers (ours), which start at zero: the network then is the 2D network
applied to every view. Or joint attention (MVDream, SPAD): the transformers'
self-attention runs over all views of an asset, at no parameters of its own.
"""

import functools
from collections.abc import Mapping
from typing import Any

import einops
import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from mvjax.nn import (
  attention,
  blocks,
  camera_features,
  epipolar,
  joint_views,
  layers,
)
from mvjax.parallel import logical

Cameras = camera_features.CameraFeatures | joint_views.JointViews

EPSILON = 1e-5

# What a layer keeps for the backward pass; the rest is computed again.
REMAT = {
  # All of it, and nothing is computed again.
  "none": jax.checkpoint_policies.everything_saveable,
  # Its input.
  "blocks": jax.checkpoint_policies.nothing_saveable,
  # Also the results of matrix products, but not of convolutions, ...
  "dots_saveable": jax.checkpoint_policies.dots_saveable,
  # ... or of those without batch axes only: projections, not attention.
  "dots_with_no_batch_dims_saveable": (
    jax.checkpoint_policies.dots_with_no_batch_dims_saveable
  ),
}


class UNet(nn.Module):
  """Noisy maps, times and texts to the network output of the same shape.

  Attributes:
    block_out_channels: channels per level, finest first.
    layers_per_block: residual blocks per down level (up levels: one more).
    num_heads: attention heads per level; the middle has the last level's.
    attention_levels: which levels have spatial transformers.
    mid_attention: whether the middle has one, between two residual blocks;
      otherwise the middle is one residual block.
    cross_attention_dim: channels of a text token.
    use_linear_projection: see `attention.SpatialTransformer`.
    norm_num_groups: groups of every norm.
    in_channels: channels of the noisy maps.
    out_channels: channels of the output.
    epipolar: fields of the `EpipolarConsistencyBlock` at each place, which is
      `mid_block` or `up_blocks_{i}`; it runs after the place's transformers.
    camera_dim: numbers of a camera that the camera embedding of joint attention
      reads; None without one.
    ray_channels: of the rays that every transformer is given, see
      `attention.SpatialTransformer`.
    remat: what is kept for the backward pass, a key of `REMAT`.
    dtype: compute dtype.
  """

  block_out_channels: tuple[int, ...] = (320, 640, 1280, 1280)
  layers_per_block: int = 2
  num_heads: tuple[int, ...] = (8, 8, 8, 8)
  attention_levels: tuple[bool, ...] = (True, True, True, False)
  mid_attention: bool = True
  cross_attention_dim: int = 768
  use_linear_projection: bool = False
  norm_num_groups: int = 32
  in_channels: int = 4
  out_channels: int = 4
  epipolar: Mapping[str, Mapping[str, Any]] | None = None
  camera_dim: int | None = None
  ray_channels: int = 0
  remat: str = "none"
  dtype: DTypeLike = jnp.float32

  @nn.compact
  def __call__(
    self,
    x: Float[Array, "n h w c"],
    t: Float[Array, "n"],
    text: Float[Array, "n l d"],
    cameras: Cameras | None = None,
  ) -> Float[Array, "n h w o"]:
    """Returns the float32 network output.

    Args:
      x: noisy maps; sides divisible by 2 per change of level.
      t: diffusion times, which need not be whole.
      text: encoded texts.
      cameras: of the b assets of v views behind the n maps: CameraFeatures
        for epipolar blocks, JointViews for joint attention; None for the 2D
        network.

    Raises:
      ValueError: a field does not fit the others or the input.
    """
    self._check(x, text, cameras)
    widths = self.block_out_channels
    embed = functools.partial(layers.Embedder, 4 * widths[0], dtype=self.dtype)
    time_embedding = embed(name="time_embedding")(
      layers.timestep_features(t, widths[0])
    )
    if cameras is not None:
      time_embedding += embed(zero_init=True, name="camera_embedding")(
        einops.rearrange(cameras.camera_numbers, "b v k -> (b v) k")
      )
    time_embedding = logical.constrain(time_embedding, "batch")
    text = logical.constrain(text, "batch")

    x = layers.Conv(widths[0], dtype=self.dtype, name="conv_in")(x)
    skips = [x]
    last = len(widths) - 1
    for i in range(len(widths)):
      x, outputs = DownBlock(
        **self._shared(i, f"down_blocks_{i}"),
        num_layers=self.layers_per_block,
        downsample=i < last,
      )(x, time_embedding, text, cameras)
      skips += outputs
    x = MidBlock(**self._shared(last, "mid_block"))(
      x, time_embedding, text, cameras
    )
    for i in range(len(widths)):
      count = self.layers_per_block + 1
      x = UpBlock(
        **self._shared(last - i, f"up_blocks_{i}"),
        num_layers=count,
        upsample=i < last,
      )(x, skips[-count:], time_embedding, text, cameras)
      del skips[-count:]
    return blocks.head(
      x,
      features=self.out_channels,
      norm_num_groups=self.norm_num_groups,
      norm_epsilon=EPSILON,
      zero_init=True,
      dtype=self.dtype,
    ).astype(jnp.float32)

  def _shared(self, level: int, place: str) -> dict[str, Any]:
    """The fields of the block at a place."""
    attends = self.attention_levels[level]
    if place == "mid_block":
      attends = self.mid_attention
    return dict(
      features=self.block_out_channels[level],
      num_heads=self.num_heads[level] if attends else None,
      use_linear_projection=self.use_linear_projection,
      norm_num_groups=self.norm_num_groups,
      epipolar=(self.epipolar or {}).get(place),
      ray_channels=self.ray_channels,
      remat=self.remat,
      dtype=self.dtype,
      name=place,
    )

  def _check(self, x: Array, text: Array, cameras: Any) -> None:
    """Raises ValueError where the fields and inputs do not fit."""
    levels = len(self.block_out_channels)
    if self.remat not in REMAT:
      raise ValueError(
        f"remat={self.remat!r}: choose one of {', '.join(REMAT)}"
      )
    for field in ("num_heads", "attention_levels"):
      if len(getattr(self, field)) != levels:
        raise ValueError(
          f"{field}={getattr(self, field)} for block_out_channels="
          f"{self.block_out_channels}: give one entry per level"
        )
    places = {"mid_block", *(f"up_blocks_{i}" for i in range(levels))}
    unknown = set(self.epipolar or {}) - places
    if unknown:
      raise ValueError(
        f"epipolar has blocks at {sorted(unknown)}: choose from "
        f"{sorted(places)}"
      )
    step = 2 ** (levels - 1)
    if x.shape[1] % step or x.shape[2] % step:
      raise ValueError(
        f"maps of {x.shape[1]} x {x.shape[2]}: sides must be multiples of "
        f"{step} for {levels} levels"
      )
    for name, got, want in (
      ("x", x.shape[-1], self.in_channels),
      ("text", text.shape[-1], self.cross_attention_dim),
    ):
      if got != want:
        raise ValueError(
          f"{name} has {got} channels, the UNet was made for {want}"
        )
    if cameras is not None:
      self._check_cameras(cameras, len(x))

  def _check_cameras(self, cameras: Cameras, num_maps: int) -> None:
    """Raises ValueError where the cameras do not fit fields and maps."""
    b, v, numbers = cameras.camera_numbers.shape
    if isinstance(cameras, joint_views.JointViews):
      if numbers != self.camera_dim:
        raise ValueError(
          f"cameras of {numbers} numbers were given to a UNet with camera_dim="
          f"{self.camera_dim}: use the camera conditioning of its model"
        )
    elif not self.epipolar:
      raise ValueError(
        "cameras were given to a UNet without epipolar blocks: set epipolar, "
        "or call it as the 2D network without cameras"
      )
    if num_maps != b * v:
      raise ValueError(
        f"{num_maps} maps for cameras of {b} assets with {v} views: give one "
        "map per camera, the view axis fast"
      )


class Block(nn.Module):
  """What the blocks of all levels share: their layers, by diffusers' names.

  Attributes:
    features: channels of the level.
    num_heads: attention heads of its transformers, None without them.
    use_linear_projection: see `attention.SpatialTransformer`.
    norm_num_groups: groups of every norm.
    epipolar: fields of the epipolar block, None without it.
    ray_channels: see `attention.SpatialTransformer`.
    remat: see `UNet`; it applies to each residual block, transformer and
      epipolar block.
    dtype: compute dtype.
  """

  features: int
  num_heads: int | None
  use_linear_projection: bool
  norm_num_groups: int
  epipolar: Mapping[str, Any] | None
  ray_channels: int
  remat: str
  dtype: DTypeLike

  def _kept(self, module: Any) -> Any:
    """The module's class, which keeps what `remat` says."""
    if self.remat == "none":
      return module
    return nn.remat(module, policy=REMAT[self.remat])

  def _resnet(self, i: int, x: Array, time_embedding: Array) -> Array:
    return self._kept(blocks.ResnetBlock)(
      self.features,
      norm_num_groups=self.norm_num_groups,
      norm_epsilon=EPSILON,
      zero_init=True,
      dtype=self.dtype,
      name=f"resnets_{i}",
    )(x, time_embedding)

  def _transformer(
    self, i: int, x: Array, text: Array, cameras: Cameras | None
  ) -> Array:
    if self.num_heads is None:
      return x
    joint = isinstance(cameras, joint_views.JointViews)
    x = self._kept(attention.SpatialTransformer)(
      self.num_heads,
      norm_num_groups=self.norm_num_groups,
      use_linear_projection=self.use_linear_projection,
      ray_channels=self.ray_channels,
      dtype=self.dtype,
      name=f"attentions_{i}",
    )(x, text, cameras if joint else None)
    return logical.constrain(x, "batch")

  def _see_views(self, x: Array, time_embedding: Array, cameras: Any) -> Array:
    if self.epipolar is None or cameras is None:
      return x
    x = self._kept(epipolar.EpipolarConsistencyBlock)(
      **self.epipolar, dtype=self.dtype, name="epipolar"
    )(x, time_embedding, cameras)
    return logical.constrain(x, "batch")


class DownBlock(Block):
  """Residual blocks with transformers, then half the resolution."""

  num_layers: int
  downsample: bool

  @nn.compact
  def __call__(
    self,
    x: Float[Array, "n h w c"],
    time_embedding: Float[Array, "n e"],
    text: Float[Array, "n l d"],
    cameras: Cameras | None,
  ) -> tuple[Float[Array, "n i j o"], list[Array]]:
    """Returns the block's output and all outputs that the up path reads."""
    outputs = []
    for i in range(self.num_layers):
      x = self._resnet(i, x, time_embedding)
      x = self._transformer(i, x, text, cameras)
      outputs.append(x)
    if self.downsample:
      x = blocks.Downsample(padding=1, dtype=self.dtype, name="downsamplers_0")(
        x
      )
      outputs.append(x)
    return x, outputs


class MidBlock(Block):
  """The coarsest level: residual block; transformer, residual block."""

  @nn.compact
  def __call__(
    self,
    x: Float[Array, "n h w c"],
    time_embedding: Float[Array, "n e"],
    text: Float[Array, "n l d"],
    cameras: Cameras | None,
  ) -> Float[Array, "n h w c"]:
    """Returns the block's output."""
    x = self._resnet(0, x, time_embedding)
    x = self._transformer(0, x, text, cameras)
    x = self._see_views(x, time_embedding, cameras)
    if self.num_heads is not None:
      x = self._resnet(1, x, time_embedding)
    return x


class UpBlock(Block):
  """Residual blocks over skips with transformers, then the next level."""

  num_layers: int
  upsample: bool

  @nn.compact
  def __call__(
    self,
    x: Float[Array, "n h w c"],
    skips: list[Array],
    time_embedding: Float[Array, "n e"],
    text: Float[Array, "n l d"],
    cameras: Cameras | None,
  ) -> Float[Array, "n i j o"]:
    """Returns the block's output; skips are used from the last on."""
    for i, skip in enumerate(reversed(skips)):
      x = jnp.concatenate([x, skip], axis=-1)
      x = self._resnet(i, x, time_embedding)
      x = self._transformer(i, x, text, cameras)
    x = self._see_views(x, time_embedding, cameras)
    if self.upsample:
      x = blocks.Upsample(dtype=self.dtype, name="upsamplers_0")(x)
    return x
