"""EfficientNet-Lite0 up to its pooled 1280 features: a measuring instrument.

The lite family (Tan & Le 2019, arXiv:1905.11946, without squeeze-excitation
and with ReLU6) was published with TensorFlow's SAME padding, under which a
stride-2 layer pads more at the bottom and right. At inference a batch norm is
an affine map, so it is folded into the convolution before it, once, when the
weights are converted: a layer is then a kernel and a bias.

Parameters: `{layer: {'kernel': [kh kw in/groups out], 'bias': [out]}}` with the
layer names of `layer_shapes`. Images are NHWC, `(value - 127) / 128`.
"""

import dataclasses
from collections.abc import Mapping

import einops
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

NUM_FEATURES = 1280
_STEM_CHANNELS = 32
_BATCH_NORM_EPSILON = 1e-3

Parameters = Mapping[str, Mapping[str, Float[Array, "..."]]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Stage:
  """Equal inverted-residual blocks; only the first has the stride."""

  repeats: int
  kernel: int
  stride: int
  expansion: int
  channels: int


_STAGES = (
  Stage(repeats=1, kernel=3, stride=1, expansion=1, channels=16),
  Stage(repeats=2, kernel=3, stride=2, expansion=6, channels=24),
  Stage(repeats=2, kernel=5, stride=2, expansion=6, channels=40),
  Stage(repeats=3, kernel=3, stride=2, expansion=6, channels=80),
  Stage(repeats=3, kernel=5, stride=1, expansion=6, channels=112),
  Stage(repeats=4, kernel=5, stride=2, expansion=6, channels=192),
  Stage(repeats=1, kernel=3, stride=1, expansion=6, channels=320),
)
BLOCKS = tuple(
  dataclasses.replace(stage, stride=1 if i else stage.stride)
  for stage in _STAGES
  for i in range(stage.repeats)
)


def layer_shapes() -> dict[str, tuple[int, int, int, int]]:
  """The kernel shape [kh kw in/groups out] of every layer, in order."""
  shapes = {"stem": (3, 3, 3, _STEM_CHANNELS)}
  inputs = _STEM_CHANNELS
  for i, block in enumerate(BLOCKS):
    hidden = inputs * block.expansion
    if block.expansion > 1:
      shapes[f"blocks_{i}/expand"] = (1, 1, inputs, hidden)
    shapes[f"blocks_{i}/depthwise"] = (block.kernel, block.kernel, 1, hidden)
    shapes[f"blocks_{i}/project"] = (1, 1, hidden, block.channels)
    inputs = block.channels
  return shapes | {"head": (1, 1, inputs, NUM_FEATURES)}


def from_torch(
  state: Mapping[str, np.ndarray],
) -> dict[str, dict[str, np.ndarray]]:
  """Converts the torch package's tensors, folding every batch norm.

  Args:
    state: tensors by name, kernels OIHW; the classifier is not used.

  Returns:
    Parameters as described in the module docstring, float32.

  Raises:
    ValueError: if a tensor is missing or has another shape.
  """
  params = {}
  for layer, shape in layer_shapes().items():
    conv, norm = _torch_names(layer)
    try:
      kernel = einops.rearrange(state[f"{conv}.weight"], "o i h w -> h w i o")
      gain, shift, mean, variance = (
        state[f"{norm}.{part}"].astype(np.float64)
        for part in ("weight", "bias", "running_mean", "running_var")
      )
    except KeyError as error:
      raise ValueError(f"weights of {layer}: no tensor {error}") from error
    if kernel.shape != shape:
      raise ValueError(f"{conv}.weight is {kernel.shape} (HWIO), not {shape}")
    scale = gain / np.sqrt(variance + _BATCH_NORM_EPSILON)
    params[layer] = {
      "kernel": np.ascontiguousarray(kernel * scale, np.float32),
      "bias": (shift - mean * scale).astype(np.float32),
    }
  return params


def _torch_names(layer: str) -> tuple[str, str]:
  """The torch prefixes of a layer's convolution and of its batch norm."""
  if "/" not in layer:
    return f"_conv_{layer}", {"stem": "_bn0", "head": "_bn1"}[layer]
  block, place = layer.split("/")
  prefix = block.replace("blocks_", "_blocks.")
  norm = {"expand": "_bn0", "depthwise": "_bn1", "project": "_bn2"}[place]
  return f"{prefix}._{place}_conv", f"{prefix}.{norm}"


@jax.jit
def pooled_features(
  params: Parameters, images: Float[Array, "n h w 3"]
) -> Float[Array, "n 1280"]:
  """Globally pooled features of images scaled by `(value - 127) / 128`.

  Args:
    params: as described in the module docstring.
    images: any size from 32 pixels up; 224 is what the weights were trained
      at, and 128 still classifies well.
  """
  x = relu6(convolve(images, params["stem"], stride=2))
  for i in range(len(BLOCKS)):
    x = _inverted_residual(x, params, index=i)
  x = relu6(convolve(x, params["head"], stride=1))
  return x.mean((1, 2))


def _inverted_residual(x, params: Parameters, *, index: int):
  block, name = BLOCKS[index], f"blocks_{index}"
  out = x
  if block.expansion > 1:
    out = relu6(convolve(out, params[f"{name}/expand"], stride=1))
  depthwise = params[f"{name}/depthwise"]
  out = relu6(depthwise_convolve(out, depthwise, stride=block.stride))
  out = convolve(out, params[f"{name}/project"], stride=1)
  return out + x if block.stride == 1 and out.shape == x.shape else out


def relu6(x: Float[Array, "..."]) -> Float[Array, "..."]:
  """Clamps to [0, 6]."""
  return jnp.clip(x, 0, 6)


def convolve(
  x: Float[Array, "n h w c"],
  layer: Mapping[str, Float[Array, "..."]],
  *,
  stride: int,
) -> Float[Array, "n h2 w2 e"]:
  """Dense convolution and bias with SAME padding."""
  out = lax.conv_general_dilated(
    x,
    layer["kernel"],
    (stride, stride),
    "SAME",
    dimension_numbers=("NHWC", "HWIO", "NHWC"),
  )
  return out + layer["bias"][None, None, None]


def depthwise_convolve(
  x: Float[Array, "n h w c"],
  layer: Mapping[str, Float[Array, "..."]],
  *,
  stride: int,
) -> Float[Array, "n h2 w2 c"]:
  """Channel-by-channel convolution and bias with SAME padding.

  A sum of shifted products: XLA's grouped convolution is several times slower
  on a CPU and gives the same numbers to rounding.
  """
  kernel = layer["kernel"]
  height, width = kernel.shape[:2]
  _, *sizes, _ = x.shape
  pads = lax.padtype_to_pads(sizes, (height, width), (stride, stride), "SAME")
  x = jnp.pad(x, ((0, 0), *pads, (0, 0)))
  rows, columns = (-(-size // stride) for size in sizes)
  out = layer["bias"][None, None, None]
  for i in range(height):
    for j in range(width):
      window = x[
        :,
        i : i + (rows - 1) * stride + 1 : stride,
        j : j + (columns - 1) * stride + 1 : stride,
      ]
      out = out + window * kernel[i, j][None, None]
  return out
