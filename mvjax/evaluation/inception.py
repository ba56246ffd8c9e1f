"""The Inception-v3 network of the FID, up to its 2048 pooled features.

It is the network of December 2015 (Szegedy et al. 2015, arXiv:1512.00567, as
first published for TensorFlow), which differs from today's Inception-v3 in its
weights, in 1008 classes, in average pooling that does not count the padding,
and in the last block, whose pooling is a maximum. The weights are those of
pytorch-fid (`pt_inception-2015-12-05-6726825d.pth`, 190 MB) or a safetensors
file of the same tensors, and have to be supplied.

At inference a batch norm is an affine map and is folded into its convolution.
Parameters: `{layer: {'kernel': [kh kw in out], 'bias': [out]}}` with the torch
names of the layers, and `fc`, whose kernel is [2048 1008].
"""

import dataclasses
import os
from collections.abc import Iterator, Mapping

import einops
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from mvjax.weights import tensors as tensors_lib
from mvjax.weights import weight_file

NUM_FEATURES = 2048
NUM_CLASSES = 1008
IMAGE_SIZE = 299
_BATCH_NORM_EPSILON = 1e-3

Parameters = Mapping[str, Mapping[str, Float[Array, "..."]]]


@dataclasses.dataclass(frozen=True)
class Conv:
  """A convolution with ReLU; it keeps the size unless it has a stride.

  Attributes:
    name: as in the torch file, after the block's name.
    channels: of the output.
    kernel: height, width.
    stride: 2 halves the map, without padding.
    padded: False shrinks the map by the kernel less one.
  """

  name: str
  channels: int
  kernel: tuple[int, int] = (1, 1)
  stride: int = 1
  padded: bool = True

  @property
  def padding(self) -> list[tuple[int, int]]:
    """Zeros before and after, by axis."""
    padded = self.padded and self.stride == 1
    sides = [k // 2 if padded else 0 for k in self.kernel]
    return [(side, side) for side in sides]


# A branch is a chain; a tuple in it is a fork whose ends are joined.
Branch = tuple[Conv | tuple[Conv, Conv], ...]


@dataclasses.dataclass(frozen=True)
class Block:
  """Branches side by side, joined by channels.

  Attributes:
    name: as in the torch file.
    branches: in the order in which they are joined; the pooled one is last.
    pool: 'average', 'max' (both keep the size) or 'halve' (max, stride 2).
    pooled: channels of the convolution after the pooling; 0 for none.
  """

  name: str
  branches: tuple[Branch, ...]
  pool: str
  pooled: int = 0


def _block_a(name: str, pooled: int) -> Block:
  return Block(
    name,
    (
      (Conv("branch1x1", 64),),
      (Conv("branch5x5_1", 48), Conv("branch5x5_2", 64, (5, 5))),
      (
        Conv("branch3x3dbl_1", 64),
        Conv("branch3x3dbl_2", 96, (3, 3)),
        Conv("branch3x3dbl_3", 96, (3, 3)),
      ),
    ),
    "average",
    pooled,
  )


def _block_c(name: str, width: int) -> Block:
  return Block(
    name,
    (
      (Conv("branch1x1", 192),),
      (
        Conv("branch7x7_1", width),
        Conv("branch7x7_2", width, (1, 7)),
        Conv("branch7x7_3", 192, (7, 1)),
      ),
      (
        Conv("branch7x7dbl_1", width),
        Conv("branch7x7dbl_2", width, (7, 1)),
        Conv("branch7x7dbl_3", width, (1, 7)),
        Conv("branch7x7dbl_4", width, (7, 1)),
        Conv("branch7x7dbl_5", 192, (1, 7)),
      ),
    ),
    "average",
    192,
  )


def _block_e(name: str, pool: str) -> Block:
  return Block(
    name,
    (
      (Conv("branch1x1", 320),),
      (
        Conv("branch3x3_1", 384),
        (
          Conv("branch3x3_2a", 384, (1, 3)),
          Conv("branch3x3_2b", 384, (3, 1)),
        ),
      ),
      (
        Conv("branch3x3dbl_1", 448),
        Conv("branch3x3dbl_2", 384, (3, 3)),
        (
          Conv("branch3x3dbl_3a", 384, (1, 3)),
          Conv("branch3x3dbl_3b", 384, (3, 1)),
        ),
      ),
    ),
    pool,
    192,
  )


_STEM = (
  (
    Conv("Conv2d_1a_3x3", 32, (3, 3), stride=2),
    Conv("Conv2d_2a_3x3", 32, (3, 3), padded=False),
    Conv("Conv2d_2b_3x3", 64, (3, 3)),
  ),
  (
    Conv("Conv2d_3b_1x1", 80),
    Conv("Conv2d_4a_3x3", 192, (3, 3), padded=False),
  ),
)
"""Each part ends in a maximum over 3x3 that halves the map."""

_BLOCKS = (
  _block_a("Mixed_5b", 32),
  _block_a("Mixed_5c", 64),
  _block_a("Mixed_5d", 64),
  Block(
    "Mixed_6a",
    (
      (Conv("branch3x3", 384, (3, 3), stride=2),),
      (
        Conv("branch3x3dbl_1", 64),
        Conv("branch3x3dbl_2", 96, (3, 3)),
        Conv("branch3x3dbl_3", 96, (3, 3), stride=2),
      ),
    ),
    "halve",
  ),
  _block_c("Mixed_6b", 128),
  _block_c("Mixed_6c", 160),
  _block_c("Mixed_6d", 160),
  _block_c("Mixed_6e", 192),
  Block(
    "Mixed_7a",
    (
      (
        Conv("branch3x3_1", 192),
        Conv("branch3x3_2", 320, (3, 3), stride=2),
      ),
      (
        Conv("branch7x7x3_1", 192),
        Conv("branch7x7x3_2", 192, (1, 7)),
        Conv("branch7x7x3_3", 192, (7, 1)),
        Conv("branch7x7x3_4", 192, (3, 3), stride=2),
      ),
    ),
    "halve",
  ),
  _block_e("Mixed_7b", "average"),
  _block_e("Mixed_7c", "max"),
)


def layer_shapes() -> dict[str, tuple[int, int, int, int]]:
  """The kernel shape [kh kw in out] of every convolution, by torch name."""
  shapes = {}

  def add(name: str, conv: Conv, inputs: int) -> int:
    shapes[name] = (*conv.kernel, inputs, conv.channels)
    return conv.channels

  channels = 3
  for conv in (conv for part in _STEM for conv in part):
    channels = add(conv.name, conv, channels)
  for block in _BLOCKS:
    joined = 0
    for branch in block.branches:
      width = channels
      for step in branch:
        ends = [
          add(f"{block.name}.{conv.name}", conv, width)
          for conv in _as_fork(step)
        ]
        width = sum(ends)
      joined += width
    if block.pooled:
      pool = Conv("branch_pool", block.pooled)
      joined += add(f"{block.name}.branch_pool", pool, channels)
    else:
      joined += channels
    channels = joined
  return shapes


def torch_shapes() -> dict[str, tuple[int, ...]]:
  """Names and shapes of the tensors that are read from a torch file."""
  shapes: dict[str, tuple[int, ...]] = {
    "fc.weight": (NUM_CLASSES, NUM_FEATURES),
    "fc.bias": (NUM_CLASSES,),
  }
  for name, (height, width, inputs, outputs) in layer_shapes().items():
    shapes[f"{name}.conv.weight"] = (outputs, inputs, height, width)
    for part in ("weight", "bias", "running_mean", "running_var"):
      shapes[f"{name}.bn.{part}"] = (outputs,)
  return shapes


def load_weights(path: str | os.PathLike) -> Parameters:
  """Reads pytorch-fid's file, or the same tensors as safetensors.

  Raises:
    FileNotFoundError: there is no such file.
    ValueError: it cannot be read, or is not this network.
  """
  try:
    return from_torch(weight_file.open_weights(path))
  except KeyError as error:
    raise ValueError(
      f"{path} has no tensor {error}: it is not the FID's Inception network "
      "(pt_inception-2015-12-05-6726825d.pth of pytorch-fid)"
    ) from error


def from_torch(tensors: tensors_lib.Tensors) -> Parameters:
  """Parameters of the torch tensors, every batch norm folded.

  Raises:
    KeyError: a tensor is missing.
    ValueError: a tensor has another shape; torchvision's Inception does.
  """

  def read(name: str, shape: tuple[int, ...]) -> np.ndarray:
    array = tensors[name].read()
    if array.shape != shape:
      raise ValueError(
        f"{name} is {array.shape}, not {shape}: these are not the weights "
        "of the FID's Inception network"
      )
    return array.astype(np.float64)

  state = {name: read(name, shape) for name, shape in torch_shapes().items()}
  params = {"fc": {"kernel": state["fc.weight"].T, "bias": state["fc.bias"]}}
  for name in layer_shapes():
    scale = state[f"{name}.bn.weight"] / np.sqrt(
      state[f"{name}.bn.running_var"] + _BATCH_NORM_EPSILON
    )
    mean = state[f"{name}.bn.running_mean"]
    params[name] = {
      "kernel": einops.rearrange(
        state[f"{name}.conv.weight"], "o i h w -> h w i o"
      )
      * scale,
      "bias": state[f"{name}.bn.bias"] - mean * scale,
    }
  return jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), params)


@jax.jit
def pooled_features(
  params: Parameters, images: Float[Array, "n h w 3"]
) -> Float[Array, "n 2048"]:
  """Globally pooled features of images in [-1, 1], 299 pixels square."""
  x = images
  for part in _STEM:
    for conv in part:
      x = _convolve(x, params[conv.name], conv)
    x = _max_pool(x, 2, "VALID")
  for block in _BLOCKS:
    x = jnp.concatenate(list(_branches(x, params, block)), -1)
  return x.mean((1, 2))


def logits(
  params: Parameters, features: Float[np.ndarray, "n 2048"]
) -> Float[np.ndarray, "n 1008"]:
  """Class logits for the inception score: without the bias.

  The published score multiplies the pooled features by the classifier's
  matrix only.
  """
  return features @ np.asarray(params["fc"]["kernel"])


def _branches(
  x: Float[Array, "n h w c"], params: Parameters, block: Block
) -> Iterator[Array]:
  for branch in block.branches:
    y = x
    for step in branch:
      ends = [
        _convolve(y, params[f"{block.name}.{conv.name}"], conv)
        for conv in _as_fork(step)
      ]
      y = jnp.concatenate(ends, -1)
    yield y
  if block.pool == "halve":
    yield _max_pool(x, 2, "VALID")
    return
  pooled = _max_pool(x, 1, "SAME") if block.pool == "max" else _average_pool(x)
  conv = Conv("branch_pool", block.pooled)
  yield _convolve(pooled, params[f"{block.name}.branch_pool"], conv)


def _as_fork(step: Conv | tuple[Conv, Conv]) -> tuple[Conv, ...]:
  return (step,) if isinstance(step, Conv) else step


def _convolve(x, layer, conv: Conv):
  out = lax.conv_general_dilated(
    x,
    layer["kernel"],
    (conv.stride, conv.stride),
    conv.padding,
    dimension_numbers=("NHWC", "HWIO", "NHWC"),
  )
  return jax.nn.relu(out + layer["bias"][None, None, None])


def _max_pool(x, stride: int, padding: str):
  window, strides = (1, 3, 3, 1), (1, stride, stride, 1)
  return lax.reduce_window(x, -jnp.inf, lax.max, window, strides, padding)


def _average_pool(x):
  """Mean over 3x3 of the pixels that exist."""
  window, strides = (1, 3, 3, 1), (1, 1, 1, 1)
  total = lax.reduce_window(x, 0.0, lax.add, window, strides, "SAME")
  ones = jnp.ones((1, *x.shape[1:3], 1), x.dtype)
  count = lax.reduce_window(ones, 0.0, lax.add, window, strides, "SAME")
  return total / count
