"""CLIP from a folder in transformers' layout: does a picture show its text?

* CLIP score: 100 max(cos(image, text), 0), averaged over the views of an asset
  and then over assets (Hessel et al. 2021, arXiv:2104.08718, with the factor
  100 that papers on text to 3D use).
* R-precision: share of views whose own prompt has the highest cosine among
  the different prompts of the set (as in Dream Fields, arXiv:2112.01455).
  Chance is 1 / number of prompts, so it is not comparable between sets.

The folder holds config.json, model.safetensors with both towers and the two
projections, and the tokenizer's files, such as `openai/clip-vit-base-patch32`.
Other CLIPs give other scores: the report names the folder.
"""

import dataclasses
import functools
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int
from PIL import Image

from mvjax import tokenizer
from mvjax.evaluation import vision_transformer
from mvjax.nn import text_encoder
from mvjax.weights import folder, names

_MEAN = np.array([0.48145466, 0.4578275, 0.40821073], np.float32)
_STD = np.array([0.26862954, 0.26130258, 0.27577711], np.float32)
# What transformers assumes where a config is silent.
_DEFAULTS = {
  "text_config": {
    "vocab_size": 49408,
    "max_position_embeddings": 77,
    "hidden_size": 512,
    "intermediate_size": 2048,
    "num_hidden_layers": 12,
    "num_attention_heads": 8,
    "hidden_act": "quick_gelu",
  },
  "vision_config": {
    "image_size": 224,
    "patch_size": 32,
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "hidden_act": "quick_gelu",
  },
}
# For the training loss only.
_UNUSED = "logit_scale"


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Clip:
  """Both towers with their weights.

  Attributes:
    source: the folder, for the report.
    text: the text tower.
    vision: the vision tower.
    tokens: the tokenizer.
    params: `text_model`, `vision_model` and the kernels of `text_projection`
      and `visual_projection`.
  """

  source: str
  text: text_encoder.TextEncoder
  vision: vision_transformer.VisionTower
  tokens: tokenizer.Tokenizer
  params: Mapping[str, Any]

  @property
  def image_size(self) -> int:
    """Pixels of the images that `embed_images` takes."""
    return self.vision.image_size

  def embed_images(
    self, images: Float[Array | np.ndarray, "b h w 3"]
  ) -> Float[Array, "b d"]:
    """Unit vectors of images made by `prepare`."""
    return _embed_images(self.vision, self.params, images)

  def embed_texts(self, texts: Sequence[str]) -> Float[np.ndarray, "b d"]:
    """Unit vectors of texts; a text that is too long is cut."""
    parts = []
    for text in texts:  # one shape for all sets of prompts
      ids = self.tokens([text])
      last = int((ids[0] == self.tokens.end_id).argmax())
      part = _embed_text(self.text, self.params, jnp.asarray(ids), last)
      parts.append(np.asarray(part[0]))
    return np.stack(parts)


def load(source: str | os.PathLike) -> Clip:
  """Opens a folder in transformers' layout.

  Raises:
    FileNotFoundError: the config, weights or tokenizer are missing.
    ValueError: they are damaged or do not belong together.
  """
  home = pathlib.Path(source).resolve()
  opened = folder.read_component(home.parent, home.name)
  text = _DEFAULTS["text_config"] | opened.config.get("text_config", {})
  vision = _DEFAULTS["vision_config"] | opened.config.get("vision_config", {})
  for name, config in (("text", text), ("vision", vision)):
    if config["hidden_act"] not in text_encoder.ACTIVATIONS:
      raise ValueError(
        f"{home / 'config.json'}: {name} hidden_act={config['hidden_act']!r} "
        f"must be one of {', '.join(text_encoder.ACTIVATIONS)}"
      )
  text_tower = text_encoder.TextEncoder(
    vocab_size=text["vocab_size"],
    max_length=text["max_position_embeddings"],
    **_common(text),
  )
  vision_tower = vision_transformer.VisionTower(
    image_size=vision["image_size"],
    patch_size=vision["patch_size"],
    **_common(vision),
  )
  params = names.from_torch(
    {k: t.read() for k, t in opened.tensors.items() if k != _UNUSED}
  )
  shapes = _abstract(
    text_tower, vision_tower, opened.config.get("projection_dim", 512)
  )
  names.check_tree(params, shapes, source=str(home))
  return Clip(
    source=str(source),
    text=text_tower,
    vision=vision_tower,
    tokens=tokenizer.Tokenizer.load(home),
    params=jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), params),
  )


def prepare(
  image: Float[np.ndarray, "h w 3"], size: int
) -> Float[np.ndarray, "s s 3"]:
  """What CLIP's processor makes of a square picture in [-1, 1].

  Bicubic to the tower's size, in bytes as PIL does it, then CLIP's mean and
  deviation. A picture that is not square is cut to its middle first.
  """
  side = min(image.shape[:2])
  top, left = ((length - side) // 2 for length in image.shape[:2])
  middle = image[top : top + side, left : left + side]
  levels = np.round(np.clip((middle + 1) * 127.5, 0, 255)).astype(np.uint8)
  picture = Image.fromarray(levels)
  if side != size:
    picture = picture.resize((size, size), Image.Resampling.BICUBIC)
  return (np.asarray(picture, np.float32) / 255 - _MEAN) / _STD


def similarities(
  images: Float[np.ndarray, "n d"], texts: Float[np.ndarray, "p d"]
) -> Float[np.ndarray, "n p"]:
  """CLIP score of every unit image vector with every unit text vector."""
  return 100 * np.maximum(images @ texts.T, 0)


def is_first(
  scores: Float[np.ndarray, "n p"], own: Int[np.ndarray, " n"]
) -> np.ndarray:
  """Whether each row's own column is its highest alone; ties are not."""
  rows = np.arange(len(scores))
  best = scores[rows, own]
  return (scores >= best[:, None]).sum(1) == 1


def _common(config: Mapping[str, Any]) -> dict[str, Any]:
  return {
    "hidden_size": config["hidden_size"],
    "intermediate_size": config["intermediate_size"],
    "num_layers": config["num_hidden_layers"],
    "num_heads": config["num_attention_heads"],
    "activation": config["hidden_act"],
  }


def _abstract(
  text: text_encoder.TextEncoder,
  vision: vision_transformer.VisionTower,
  width: int,
) -> dict[str, Any]:
  """The parameters that both towers and their projections need."""
  key = jax.random.key(0)
  ids = jnp.zeros((1, 1), jnp.int32)
  images = jnp.zeros((1, vision.image_size, vision.image_size, 3))
  inner = jax.eval_shape(text.init, key, ids)["params"]["text_model"]
  outer = jax.eval_shape(vision.init, key, images)["params"]

  def kernel(inputs: int) -> dict[str, jax.ShapeDtypeStruct]:
    return {"kernel": jax.ShapeDtypeStruct((inputs, width), jnp.float32)}

  return {
    "text_model": inner,
    "vision_model": outer,
    "text_projection": kernel(text.hidden_size),
    "visual_projection": kernel(vision.hidden_size),
  }


@functools.partial(jax.jit, static_argnums=0)
def _embed_images(
  tower: vision_transformer.VisionTower, params: Any, images: Array
) -> Array:
  pooled = tower.apply({"params": params["vision_model"]}, images)
  return _unit(pooled @ params["visual_projection"]["kernel"])


@functools.partial(jax.jit, static_argnums=0)
def _embed_text(
  tower: text_encoder.TextEncoder, params: Any, ids: Array, last: Array
) -> Array:
  """Embeds the token at place `last`, the end of the text."""
  states, _ = tower.apply({"params": {"text_model": params["text_model"]}}, ids)
  return _unit(states[:, last] @ params["text_projection"]["kernel"])


def _unit(x: Array) -> Array:
  return x / jnp.linalg.norm(x, axis=-1, keepdims=True)
