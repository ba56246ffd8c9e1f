"""CLIP's vision tower (Radford et al. 2021, arXiv:2103.00020), to its class
token. Parameter names are those of transformers' CLIPVisionModel.
"""

import einops
import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from mvjax.nn import attention, layers, text_encoder


class VisionTower(nn.Module):
  """Square images to one vector each.

  Attributes:
    image_size: pixels, a multiple of the patch size.
    patch_size: pixels.
    hidden_size: width of a token.
    intermediate_size: width inside the feed-forward layers.
    num_layers: transformer layers.
    num_heads: attention heads.
    activation: see `text_encoder.ACTIVATIONS`.
  """

  image_size: int = 224
  patch_size: int = 32
  hidden_size: int = 768
  intermediate_size: int = 3072
  num_layers: int = 12
  num_heads: int = 12
  activation: str = "quick_gelu"

  @nn.compact
  def __call__(self, images: Float[Array, "b h w 3"]) -> Float[Array, "b d"]:
    """Returns the normalised class token, before any projection."""
    size = (self.image_size, self.image_size)
    if images.shape[1:3] != size:
      raise ValueError(f"images are {images.shape[1:3]}, not {size} pixels")
    x = Embeddings(self.patch_size, self.hidden_size, name="embeddings")(images)
    # Spelt so in every file.
    x = layers.LayerNorm(name="pre_layrnorm")(x)
    x = Layers(
      self.num_layers,
      self.num_heads,
      self.intermediate_size,
      self.activation,
      name="encoder",
    )(x)
    return layers.LayerNorm(name="post_layernorm")(x[:, 0])


class Embeddings(nn.Module):
  """A class token and linear patches, plus positions."""

  patch_size: int
  features: int

  @nn.compact
  def __call__(self, images: Float[Array, "b h w 3"]) -> Float[Array, "b n d"]:
    """Returns the tokens, the class token first."""
    side = (self.patch_size, self.patch_size)
    patches = nn.Conv(
      self.features,
      side,
      strides=side,
      padding="VALID",
      use_bias=False,
      name="patch_embedding",
    )(images)
    token = self.param(
      "class_embedding", nn.initializers.normal(0.02), (self.features,)
    )
    first = jnp.broadcast_to(token, (len(images), 1, self.features))
    patches = einops.rearrange(patches, "b h w d -> b (h w) d")
    x = jnp.concatenate([first, patches], axis=1)
    places = nn.Embed(x.shape[1], self.features, name="position_embedding")
    return x + places(jnp.arange(x.shape[1]))[None]


class Layers(nn.Module):
  """The stack of transformer layers."""

  num_layers: int
  num_heads: int
  intermediate_size: int
  activation: str

  @nn.compact
  def __call__(self, x: Float[Array, "b n d"]) -> Float[Array, "b n d"]:
    """Returns the last layer's tokens."""
    for i in range(self.num_layers):
      x = Layer(
        self.num_heads,
        self.intermediate_size,
        self.activation,
        name=f"layers_{i}",
      )(x)
    return x


class Layer(nn.Module):
  """Self-attention and a two-layer network, both pre-normalised."""

  num_heads: int
  intermediate_size: int
  activation: str

  @nn.compact
  def __call__(self, x: Float[Array, "b n d"]) -> Float[Array, "b n d"]:
    """Returns the layer's output."""
    x = x + SelfAttention(self.num_heads, name="self_attn")(
      layers.LayerNorm(name="layer_norm1")(x)
    )
    return x + text_encoder.FeedForward(
      self.intermediate_size, self.activation, dtype=jnp.float32, name="mlp"
    )(layers.LayerNorm(name="layer_norm2")(x))


class SelfAttention(nn.Module):
  """Multi-head attention of all tokens to all."""

  num_heads: int

  @nn.compact
  def __call__(self, x: Float[Array, "b n d"]) -> Float[Array, "b n d"]:
    """Returns the attended tokens."""

    def project(name: str) -> Array:
      y = nn.Dense(x.shape[-1], name=name)(x)
      return einops.rearrange(y, "b n (k d) -> b n k d", k=self.num_heads)

    y = attention.attention(
      project("q_proj"), project("k_proj"), value=project("v_proj")
    )
    y = einops.rearrange(y, "b n k d -> b n (k d)")
    return nn.Dense(x.shape[-1], name="out_proj")(y)
