"""The CLIP text encoder, with transformers' parameter names."""

from typing import Literal

import einops
import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int

from mvjax.nn import attention, layers
from mvjax.parallel import logical


class TextEncoder(nn.Module):
  """Causal transformer over token ids.

  Attributes:
    vocab_size: rows of the token table.
    max_length: rows of the position table, the longest text in tokens.
    hidden_size: width of a token.
    intermediate_size: width inside the feed-forward layers.
    num_layers: transformer layers.
    num_heads: attention heads.
    activation: `quick_gelu` (x sigmoid(1.702 x), SD 1.x) or exact `gelu`.
    dtype: compute dtype.
  """

  vocab_size: int = 49408
  max_length: int = 77
  hidden_size: int = 768
  intermediate_size: int = 3072
  num_layers: int = 12
  num_heads: int = 12
  activation: Literal["quick_gelu", "gelu"] = "quick_gelu"
  dtype: DTypeLike = jnp.float32

  @nn.compact
  def __call__(
    self, ids: Int[Array, "b n"]
  ) -> tuple[Float[Array, "b n d"], Float[Array, "b n d"]]:
    """Encodes texts that are padded to n tokens.

    Args:
      ids: token ids; padding is not masked, but being causal no token sees
        the padding after it.

    Returns:
      The last and the second-last layer's tokens, both after the final norm
      and in float32: SD 1.x reads the first, SD 2.x the second (or, where
      the checkpoint lacks the last layer, the first).
    """
    if ids.shape[1] > self.max_length:
      raise ValueError(
        f"ids has {ids.shape[1]} tokens, more than max_length="
        f"{self.max_length}: shorten the text"
      )
    return TextModel(
      vocab_size=self.vocab_size,
      max_length=self.max_length,
      hidden_size=self.hidden_size,
      intermediate_size=self.intermediate_size,
      num_layers=self.num_layers,
      num_heads=self.num_heads,
      activation=self.activation,
      dtype=self.dtype,
      name="text_model",
    )(ids)


class TextModel(nn.Module):
  """Embeddings, layers, final norm."""

  vocab_size: int
  max_length: int
  hidden_size: int
  intermediate_size: int
  num_layers: int
  num_heads: int
  activation: str
  dtype: DTypeLike

  @nn.compact
  def __call__(
    self, ids: Int[Array, "b n"]
  ) -> tuple[Float[Array, "b n d"], Float[Array, "b n d"]]:
    """Returns the last and second-last hidden states after the norm."""
    x = Embeddings(
      self.vocab_size,
      self.max_length,
      self.hidden_size,
      dtype=self.dtype,
      name="embeddings",
    )(ids)
    states = Layers(
      self.num_layers,
      self.num_heads,
      self.intermediate_size,
      self.activation,
      dtype=self.dtype,
      name="encoder",
    )(x)
    norm = layers.LayerNorm(name="final_layer_norm")
    return norm(states[-1]), norm(states[-2])


class Embeddings(nn.Module):
  """Token plus position."""

  vocab_size: int
  max_length: int
  features: int
  dtype: DTypeLike

  @nn.compact
  def __call__(self, ids: Int[Array, "b n"]) -> Float[Array, "b n d"]:
    """Returns the embedded tokens."""
    tokens = layers.Embed(
      self.vocab_size, self.features, dtype=self.dtype, name="token_embedding"
    )(ids)
    positions = layers.Embed(
      self.max_length,
      self.features,
      dtype=self.dtype,
      name="position_embedding",
    )(jnp.arange(ids.shape[1]))
    return logical.constrain(tokens + positions[None], "batch")


class Layers(nn.Module):
  """The stack of transformer layers."""

  num_layers: int
  num_heads: int
  intermediate_size: int
  activation: str
  dtype: DTypeLike

  @nn.compact
  def __call__(self, x: Float[Array, "b n d"]) -> list[Array]:
    """Returns the input and every layer's output."""
    states = [x]
    for i in range(self.num_layers):
      layer = Layer(
        self.num_heads,
        self.intermediate_size,
        self.activation,
        dtype=self.dtype,
        name=f"layers_{i}",
      )
      states.append(logical.constrain(layer(states[-1]), "batch"))
    return states


class Layer(nn.Module):
  """Causal self-attention and a two-layer network, both pre-normalised."""

  num_heads: int
  intermediate_size: int
  activation: str
  dtype: DTypeLike

  @nn.compact
  def __call__(self, x: Float[Array, "b n d"]) -> Float[Array, "b n d"]:
    """Returns the layer's output."""

    def norm(name: str) -> layers.LayerNorm:
      return layers.LayerNorm(dtype=self.dtype, name=name)

    x = x + CausalAttention(self.num_heads, dtype=self.dtype, name="self_attn")(
      norm("layer_norm1")(x)
    )
    return x + FeedForward(
      self.intermediate_size, self.activation, dtype=self.dtype, name="mlp"
    )(norm("layer_norm2")(x))


class CausalAttention(nn.Module):
  """Multi-head attention of each token to itself and those before it."""

  num_heads: int
  dtype: DTypeLike

  @nn.compact
  def __call__(self, x: Float[Array, "b n d"]) -> Float[Array, "b n d"]:
    """Returns the attended tokens."""
    _, n, d = x.shape

    def project(name: str) -> Array:
      y = layers.Dense(d, dtype=self.dtype, name=name)(x)
      return einops.rearrange(y, "b n (k d) -> b n k d", k=self.num_heads)

    y = attention.attention(
      project("q_proj"),
      project("k_proj"),
      value=project("v_proj"),
      mask=jnp.tri(n, dtype=bool)[None, None],
    )
    return layers.Dense(d, dtype=self.dtype, name="out_proj")(
      einops.rearrange(y, "b n k d -> b n (k d)")
    )


class FeedForward(nn.Module):
  """Two layers with the encoder's activation."""

  features: int
  activation: str
  dtype: DTypeLike

  @nn.compact
  def __call__(self, x: Float[Array, "b n d"]) -> Float[Array, "b n d"]:
    """Returns the transformed tokens."""
    y = layers.Dense(self.features, dtype=self.dtype, name="fc1")(x)
    y = ACTIVATIONS[self.activation](y)
    return layers.Dense(x.shape[-1], dtype=self.dtype, name="fc2")(y)


def quick_gelu(x: Float[Array, "*b"]) -> Float[Array, "*b"]:
  """CLIP's cheap GELU, x sigmoid(1.702 x)."""
  return x * jax.nn.sigmoid(1.702 * x)


def exact_gelu(x: Float[Array, "*b"]) -> Float[Array, "*b"]:
  """The Gaussian error linear unit, x Phi(x)."""
  return jax.nn.gelu(x, approximate=False)


ACTIVATIONS = {"quick_gelu": quick_gelu, "gelu": exact_gelu}
