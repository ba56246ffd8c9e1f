"""Epipolar Consistency Block: how the views of an asset see each other.

For pixel p of view n there are points X_m on its ray (`camera_features`). Each
point is projected into every view, its own included, and two attentions turn
what is seen there into an update of the pixel (section 3.2 of the paper):

  epipolar attention  V(X_m) = F(p) + PE(X_m)
                               + attend(.., {F_j(pi_j(X_m)) + PE_j(X_m)}_j)
  ray aggregation     G(p)   = F(p) + attend(.., {V(X_m)}_m)

The first asks at each depth what the views show there, the second goes to the
depths where they agree. X_m falls on p for every m, so only the positional
encodings PE (harmonics of rays and depths) tell the M queries apart.

Keys and values are never formed. With an item z (feature and encoding, as
sampled), q . W_k z = (W_k^T q) . z and sum_a a W_v z = W_v sum_a a z: each head
carries its query over to the items once and projects one average back, so that
nothing but z is stored, and no matrix product done, for each (point, view).
V(X_m) is not formed either: it is linear in PE(X_m) and in the averages of the
first attention, which are the second one's items.
"""

import functools
import math
from typing import NamedTuple

import einops
import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float

from mvjax.nn import attention, bilinear, camera_features, layers
from mvjax.parallel import logical


class Kernels(NamedTuple):
  """Weights of one attention of tokens (c) to items (e), heads apart.

  Attributes:
    query: [c k d]; key, value: [e k d]; out: [k d c].
  """

  query: Array
  key: Array
  value: Array
  out: Array

  def read(self, tokens: Float[Array, "*b c"]) -> Float[Array, "*b k e"]:
    """What each head compares with the items; linear in the tokens."""
    query = jnp.einsum("...c,ckd->...kd", tokens, self.query)
    scale = query.shape[-1] ** -0.5
    return jnp.einsum("...kd,ekd->...ke", query * scale, self.key)

  def write(self, averages: Float[Array, "*b k e"]) -> Float[Array, "*b c"]:
    """The update made of each head's average item."""
    value = jnp.einsum("...ke,ekd->...kd", averages, self.value)
    return jnp.einsum("...kd,kdc->...c", value, self.out)

  def carry(self, query: Float[Array, "*b c"]) -> Float[Array, "*b k e"]:
    """What has the product with averages that `query` has with `write`."""
    value = jnp.einsum("...c,kdc->...kd", query, self.out)
    return jnp.einsum("...kd,ekd->...ke", value, self.value)


def attend(
  query: Float[Array, "*b k e"],
  items: Float[Array, "*b n e"],
  mask: Bool[Array, "*b n"] | None = None,
) -> tuple[Float[Array, "*b k e"], Float[Array, "*b k n"]]:
  """Averages the items, weighted by the softmax (float32) of query . item.

  Returns:
    The averages and the weights, zero where the mask is False.
  """
  logits = jnp.einsum(
    "...ke,...ne->...kn", query, items, preferred_element_type=jnp.float32
  )
  if mask is not None:
    logits = jnp.where(mask[..., None, :], logits, attention.MASKED)
  weights = jax.nn.softmax(logits, axis=-1).astype(items.dtype)
  return jnp.einsum("...kn,...ne->...ke", weights, items), weights


def epipolar_attention(
  maps: Float[Array, "b u h w c"],
  tokens: Float[Array, "b v p c"],
  level: camera_features.LevelFeatures,
  *,
  depths: Float[Array, "b v p m f"],
  kernels: Kernels,
  depth_projection: Float[Array, "f c"],
  sampler: str,
) -> tuple[Float[Array, "b v p m k e"], Float[Array, "b v p m k u"]]:
  """Each point asks all views what they show where it falls.

  Args:
    maps: features of all views.
    tokens: F(p) + PE(ray) of the asking pixels, all or some of the map's.
    level: geometry of the same pixels.
    depths: encodings of the points' depths.
    kernels: an item is a sampled feature, then the encoding of its view's ray.
    depth_projection: maps the encoding of a depth to what it adds to the token.
    sampler: key of `bilinear.SAMPLERS`.

  Returns:
    The heads' average items and their weights over the views.
  """
  _, v, p, _, _ = level.visible.shape
  num_frequencies = (depth_projection.shape[0] - 1) // 2
  positions = einops.rearrange(
    level.positions, "b v p m u xy -> b u (v p m) xy"
  )
  seen = bilinear.SAMPLERS[sampler](maps, positions)
  seen = einops.rearrange(seen, "b u (v p m) c -> b v p m u c", v=v, p=p)
  place = camera_features.harmonics(level.view_rays, num_frequencies)
  items = jnp.concatenate([seen, place.astype(seen.dtype)], -1)

  # Linear in the depth encoding, so its few rows are carried over to the items
  # and not the many points.
  query = kernels.read(tokens)[:, :, :, None] + jnp.einsum(
    "...mf,fke->...mke", depths, kernels.read(depth_projection)
  )
  return attend(query, items, level.visible)


def ray_aggregation(
  tokens: Float[Array, "b v p c"],
  averages: Float[Array, "b v p m k e"],
  *,
  depths: Float[Array, "b v p m f"],
  depth_projection: Float[Array, "f c"],
  view_kernels: Kernels,
  kernels: Kernels,
) -> tuple[Float[Array, "b v p c"], Float[Array, "b v p h m"]]:
  """Each pixel asks the points on its ray, whose features tell their depth.

  V(X_m) is the token, which is the same for all points and so decides nothing
  between them, and what depth and averages add to it.

  Args:
    tokens: of the asking pixels.
    averages: what each point saw, from `epipolar_attention`.
    depths: as there.
    depth_projection: as there.
    view_kernels: its kernels.
    kernels: of this attention; an item is a V(X_m).

  Returns:
    The update of the tokens and the heads' weights over the points.
  """
  query = kernels.read(tokens)
  query = jnp.concatenate(
    [
      jnp.einsum("...c,fc->...f", query, depth_projection),
      einops.rearrange(view_kernels.carry(query), "... k e -> ... (k e)"),
    ],
    -1,
  )
  items = [depths, einops.rearrange(averages, "... k e -> ... (k e)")]
  mean, weights = attend(query, jnp.concatenate(items, -1))
  depth, average = jnp.split(mean, depths.shape[-1:], -1)
  average = einops.rearrange(
    average, "... (k e) -> ... k e", k=averages.shape[-2]
  )
  points = tokens[..., None, :] + depth @ depth_projection
  return kernels.write(points + view_kernels.write(average)), weights


class EpipolarConsistencyBlock(nn.Module):
  """Both attentions, as a residual that starts at zero.

  The block is a pre-norm map, modulated by the time embedding, in a bottleneck
  of `width` channels. It works for any number of views and any cameras.

  Attributes:
    width: bottleneck channels, a multiple of `head_dim`.
    head_dim: channels of a head.
    sampler: 'gather' (best on CPU and GPU) or 'hat' (best on TPU).
    chunk: most pixels of each view treated at once; None: all of them. Bounds
      memory; on a CPU 16 is also the fastest, as chunks then fit its caches.
      Chunks are equal: of 36 pixels and a chunk of 16, nine times 4.
    num_frequencies: of the harmonics of rays and depths; the first is 1
      radian per unit, each is twice the one before.
    dtype: compute dtype; geometry and softmax are float32.

  Sows 'view_weights' [b v p m k u] and 'point_weights' [b v p k m].
  """

  width: int
  head_dim: int = 64
  sampler: str = "gather"
  chunk: int | None = None
  num_frequencies: int = 6
  dtype: DTypeLike = jnp.float32

  @nn.compact
  def __call__(
    self,
    hidden: Float[Array, "n h w c"],
    time_embedding: Float[Array, "n e"],
    features: camera_features.CameraFeatures,
  ) -> Float[Array, "n h w c"]:
    """Returns the maps after all views of each asset have seen each other.

    Args:
      hidden: maps of n = b * v views, the view axis fast.
      time_embedding: of each view's noise level, before its SiLU.
      features: cameras of the b assets; must have maps of this size.

    Raises:
      ValueError: no camera features for these maps, or a wrong setting.
    """
    self._check(hidden, features)
    _, height, width, channels = hidden.shape
    level = features.levels[height, width]
    v = level.visible.shape[1]
    frequencies = 1 + 2 * self.num_frequencies
    dense = functools.partial(layers.Dense, dtype=self.dtype)
    kernels = functools.partial(
      _AttentionKernels, self.width, head_dim=self.head_dim, dtype=self.dtype
    )
    zero = layers.kernel_initializer(zero=True)

    modulation = dense(2 * channels, kernel_init=zero, name="time_emb_proj")(
      nn.silu(time_embedding)
    )
    shift, scale = jnp.split(modulation[:, None, None, :], 2, axis=-1)
    x = layers.LayerNorm(dtype=self.dtype, name="norm1")(hidden)
    x = dense(self.width, name="proj_in")(x * (1 + scale) + shift)
    maps = einops.rearrange(x, "(b v) h w c -> b v h w c", v=v)

    rays = camera_features.harmonics(level.rays, self.num_frequencies)
    tokens = einops.rearrange(maps, "b v h w c -> b v (h w) c")
    tokens = tokens + dense(self.width, use_bias=False, name="ray_proj")(rays)
    # Every device asks for its own views, and sees the maps of all.
    maps = logical.constrain(maps, "batch")
    tokens = logical.constrain(tokens, "batch", "view")
    see = functools.partial(
      _see,
      maps=maps,
      depth_projection=_Kernel(self.width, dtype=self.dtype, name="depth_proj")(
        frequencies
      ),
      view_kernels=kernels(name="attn1")(self.width + 7 * frequencies),
      point_kernels=kernels(name="attn2")(self.width),
      sampler=self.sampler,
    )
    change, view_weights, point_weights = _by_chunks(
      see, tokens, level, chunk=self.chunk
    )
    self.sow("intermediates", "view_weights", view_weights)
    self.sow("intermediates", "point_weights", point_weights)

    x = einops.rearrange(x, "n h w c -> n (h w) c")
    x = x + einops.rearrange(change, "b v p c -> (b v) p c")
    y = layers.LayerNorm(dtype=self.dtype, name="norm2")(x)
    y = attention.GatedUnit(self.width, dtype=self.dtype, name="ff_in")(y)
    x = x + dense(self.width, name="ff_out")(y)
    x = dense(channels, kernel_init=zero, name="proj_out")(x)
    return hidden + einops.rearrange(x, "n (h w) c -> n h w c", h=height)

  def _check(self, hidden, features):
    """Raises ValueError where maps, cameras and settings do not fit."""
    size = hidden.shape[1:3]
    if size not in features.levels:
      raise ValueError(
        f"no camera features for {size} maps, only for "
        f"{sorted(features.levels)}: add the size to camera_features"
      )
    b, v = features.camera_numbers.shape[:2]
    if hidden.shape[0] != b * v:
      raise ValueError(
        f"{hidden.shape[0]} maps for cameras of {b} assets with {v} views: "
        "give one map per camera, the view axis fast"
      )
    if self.width % self.head_dim:
      raise ValueError(
        f"width={self.width}: must be a multiple of head_dim={self.head_dim}"
      )
    if self.sampler not in bilinear.SAMPLERS:
      raise ValueError(
        f"sampler={self.sampler!r}: choose from {sorted(bilinear.SAMPLERS)}"
      )


class _AttentionKernels(nn.Module):
  """Makes `Kernels`; the parameters are those of four Linear layers."""

  features: int
  head_dim: int
  dtype: DTypeLike

  @nn.compact
  def __call__(self, item_features: int) -> Kernels:
    """Returns the weights for items of the given size."""
    kernel = functools.partial(_Kernel, self.features, dtype=self.dtype)
    heads = functools.partial(einops.rearrange, d=self.head_dim)
    return Kernels(
      query=heads(kernel(name="to_q")(self.features), "c (k d) -> c k d"),
      key=heads(kernel(name="to_k")(item_features), "e (k d) -> e k d"),
      value=heads(kernel(name="to_v")(item_features), "e (k d) -> e k d"),
      out=heads(kernel(name="to_out_0")(self.features), "(k d) c -> k d c"),
    )


class _Kernel(nn.Module):
  """The kernel of a Linear layer by itself, to be multiplied elsewhere."""

  features: int
  dtype: DTypeLike

  @nn.compact
  def __call__(self, in_features: int) -> Float[Array, "c d"]:
    """Returns the kernel."""
    initializer = layers.kernel_initializer(zero=False)
    shape = in_features, self.features
    kernel = self.param("kernel", initializer, shape)
    return logical.whole(jnp.asarray(kernel, self.dtype))


def _see(
  tokens,
  level,
  *,
  maps,
  depth_projection,
  view_kernels,
  point_kernels,
  sampler,
):
  """Both attentions for some of the pixels."""
  num_frequencies = (depth_projection.shape[0] - 1) // 2
  depths = camera_features.harmonics(level.depths[..., None], num_frequencies)
  depths = depths.astype(tokens.dtype)
  averages, view_weights = epipolar_attention(
    maps,
    tokens,
    level,
    depths=depths,
    kernels=view_kernels,
    depth_projection=depth_projection,
    sampler=sampler,
  )
  change, point_weights = ray_aggregation(
    tokens,
    averages,
    depths=depths,
    depth_projection=depth_projection,
    view_kernels=view_kernels,
    kernels=point_kernels,
  )
  return change, view_weights, point_weights


def _by_chunks(fun, tokens, level, *, chunk):
  """Maps `fun` over chunks of the pixel axis (2), one after the other.

  Nothing but the chunks' results is kept for the backward pass.
  """
  pixels = tokens.shape[2]
  if chunk is None or chunk >= pixels:
    return fun(tokens, level)
  chunk = math.gcd(chunk, pixels)

  def split(x):
    return einops.rearrange(x, "b v (s p) ... -> s b v p ...", p=chunk)

  def join(x):
    return einops.rearrange(x, "s b v p ... -> b v (s p) ...")

  step = jax.checkpoint(lambda chunk: fun(*chunk), prevent_cse=False)
  chunks = jax.tree.map(split, (tokens, level))
  return jax.tree.map(join, jax.lax.map(step, chunks))
