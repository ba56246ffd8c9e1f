"""Scaled dot-product attention and the spatial transformer around it.

Heads stay an axis of their own (`[.. tokens heads head_dim]`); logits and
softmax are float32. Parameter names are those of diffusers.
"""

import einops
import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float

from mvjax.nn import joint_views, layers
from mvjax.parallel import logical

# Finite, so that a fully masked row gives a mean instead of NaN.
MASKED = -1e9
# Logits of a head from which on a CPU computes heads one after the other.
_MANY = 2**20


def attention(
  query: Float[Array, "*b n k d"],
  key: Float[Array, "*b m k d"],
  *,
  value: Float[Array, "*b m k e"],
  mask: Bool[Array, "..."] | None = None,
) -> Float[Array, "*b n k e"]:
  """Softmax attention, scale 1 / sqrt(head_dim).

  Args:
    query: what each token asks with.
    key: what it is compared with.
    value: what is averaged.
    mask: True where a key may be seen; same rank as `[*b k n m]` with sizes
      that broadcast to it. A row without any True averages all values.

  Returns:
    The averaged values in the dtype of `value`.
  """
  if query.ndim == 4 and query.shape[1] * key.shape[1] >= _MANY:
    return jax.lax.platform_dependent(
      query, key, value, mask, cpu=_heads_in_turn, default=_all_heads
    )
  return _all_heads(query, key, value, mask)


def _all_heads(
  query: Array, key: Array, value: Array, mask: Array | None
) -> Array:
  logits = jnp.einsum(
    "...nkd,...mkd->...knm", query, key, preferred_element_type=jnp.float32
  )
  logits = logits * query.shape[-1] ** -0.5
  if mask is not None:
    logits = jnp.where(mask, logits, MASKED)
  weights = jax.nn.softmax(logits, axis=-1).astype(value.dtype)
  return jnp.einsum("...knm,...mke->...nke", weights, value)


def _heads_in_turn(
  query: Array, key: Array, value: Array, mask: Array | None
) -> Array:
  """One head at a time: on a CPU its logits then stay in the cache."""
  heads = [
    einops.rearrange(x, "b n k d -> k b n 1 d") for x in (query, key, value)
  ]
  mask_of_head = None
  if mask is not None:
    size = (mask.shape[0], query.shape[2], *mask.shape[2:])
    mask_of_head = einops.rearrange(
      jnp.broadcast_to(mask, size), "b k n m -> k b 1 n m"
    )

  def one(inputs):
    return _all_heads(*inputs)

  y = jax.lax.map(one, (*heads, mask_of_head))
  return einops.rearrange(y, "k b n 1 d -> b n k d")


class Attention(nn.Module):
  """Multi-head attention of tokens to themselves or to a context.

  Attributes:
    num_heads: heads; head width is `channels / num_heads`.
    dtype: compute dtype.
  """

  num_heads: int
  dtype: DTypeLike = jnp.float32

  @nn.compact
  def __call__(
    self,
    x: Float[Array, "n l c"],
    context: Float[Array, "n m e"] | None = None,
    mask: Bool[Array, "n 1 l m"] | None = None,
  ) -> Float[Array, "n l c"]:
    """Returns the attended tokens, before any residual.

    Args:
      x: the asking tokens.
      context: what they see; themselves if not given.
      mask: True where a token may see one of the context, for all heads.
    """
    channels = x.shape[-1]
    if channels % self.num_heads:
      raise ValueError(
        f"num_heads={self.num_heads} does not divide {channels} channels: "
        "choose a divisor for this level"
      )
    context = x if context is None else context

    def project(name: str, tokens: Array) -> Array:
      tokens = layers.Dense(
        channels, use_bias=False, dtype=self.dtype, name=name
      )(tokens)
      return einops.rearrange(tokens, "n l (k d) -> n l k d", k=self.num_heads)

    # Every device asks for its own tokens, and sees all of their context.
    y = attention(
      project("to_q", x),
      logical.constrain(project("to_k", context), "batch"),
      value=logical.constrain(project("to_v", context), "batch"),
      mask=mask,
    )
    return layers.Dense(channels, dtype=self.dtype, name="to_out_0")(
      einops.rearrange(y, "n l k d -> n l (k d)")
    )


class FeedForward(nn.Module):
  """Gated two-layer network: values times the exact GELU of gates."""

  dtype: DTypeLike = jnp.float32

  @nn.compact
  def __call__(self, x: Float[Array, "n l c"]) -> Float[Array, "n l c"]:
    """Returns the transformed tokens, before any residual."""
    channels = x.shape[-1]
    x = GatedUnit(4 * channels, dtype=self.dtype, name="net_0")(x)
    return layers.Dense(channels, dtype=self.dtype, name="net_2")(x)


class GatedUnit(nn.Module):
  """One projection to values and gates (in this order)."""

  features: int
  dtype: DTypeLike = jnp.float32

  @nn.compact
  def __call__(self, x: Float[Array, "n l c"]) -> Float[Array, "n l f"]:
    """Returns the gated values."""
    x = layers.Dense(2 * self.features, dtype=self.dtype, name="proj")(x)
    values, gates = jnp.split(x, 2, axis=-1)
    return values * nn.gelu(gates, approximate=False)


class TransformerBlock(nn.Module):
  """Self-attention, cross-attention and feed-forward, each pre-normalised."""

  num_heads: int
  dtype: DTypeLike = jnp.float32

  @nn.compact
  def __call__(
    self,
    x: Float[Array, "n l c"],
    text: Float[Array, "n m e"],
    *,
    num_views: int = 1,
    mask: Bool[Array, "b 1 a a"] | None = None,
  ) -> Float[Array, "n l c"]:
    """Returns the tokens after the three residual additions.

    Args:
      x: tokens of n maps.
      text: of each map.
      num_views: so many consecutive maps share their self-attention.
      mask: what their tokens may see of each other, a = num_views l.
    """

    def norm(name: str) -> layers.LayerNorm:
      return layers.LayerNorm(dtype=self.dtype, name=name)

    def attend(name: str) -> Attention:
      return Attention(self.num_heads, dtype=self.dtype, name=name)

    y = norm("norm1")(x).reshape(-1, num_views * x.shape[1], x.shape[2])
    x = x + attend("attn1")(y, mask=mask).reshape(x.shape)
    x = x + attend("attn2")(norm("norm2")(x), text)
    return x + FeedForward(dtype=self.dtype, name="ff")(norm("norm3")(x))


class SpatialTransformer(nn.Module):
  """A transformer block over the pixels of each map, with residual.

  Attributes:
    num_heads: attention heads.
    norm_num_groups: groups of the input norm (epsilon 1e-6).
    use_linear_projection: Linear projections around the block (SD 2.x);
      otherwise 1x1 convolutions (SD 1.x). They differ in parameter shape
      only.
    ray_channels: channels of the rays appended to the normed maps, or 0.
    dtype: compute dtype.
  """

  num_heads: int
  norm_num_groups: int
  use_linear_projection: bool
  ray_channels: int = 0
  dtype: DTypeLike = jnp.float32

  @nn.compact
  def __call__(
    self,
    x: Float[Array, "n h w c"],
    text: Float[Array, "n m e"],
    views: joint_views.JointViews | None = None,
  ) -> Float[Array, "n h w c"]:
    """Returns the maps; at initialisation they are the input.

    Args:
      x: n maps.
      text: of each map.
      views: of the assets behind the maps; None if each map is alone.
    """
    n, h, w, c = x.shape
    num_views, mask, rays = 1, None, None
    if views is not None:
      num_views = views.num_views
      mask, rays = views.mask_at((h, w)), views.rays_at((h, w))

    def project(name: str, maps: Array, *, zero: bool) -> Array:
      if self.use_linear_projection:
        return layers.Dense(
          c,
          dtype=self.dtype,
          kernel_init=layers.kernel_initializer(zero=zero),
          name=name,
        )(maps)
      return layers.Conv(
        c,
        kernel_size=1,
        padding=0,
        zero_init=zero,
        dtype=self.dtype,
        name=name,
      )(maps)

    y = layers.GroupNorm(
      self.norm_num_groups, epsilon=1e-6, dtype=self.dtype, name="norm"
    )(x)
    if self.ray_channels:
      if rays is None:
        rays = jnp.zeros((n, h, w, self.ray_channels))
      y = jnp.concatenate([y, rays.astype(y.dtype)], axis=-1)
    y = project("proj_in", y, zero=False)
    y = einops.rearrange(y, "n h w c -> n (h w) c")
    y = TransformerBlock(
      self.num_heads, dtype=self.dtype, name="transformer_blocks_0"
    )(y, text, num_views=num_views, mask=mask)
    y = einops.rearrange(y, "n (h w) c -> n h w c", h=h)
    return x + project("proj_out", y, zero=True)
