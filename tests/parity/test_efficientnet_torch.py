"""EfficientNet-Lite0 as a whole, in torch's own operations, from the paper.

Random tensors under the torch package's names. Nothing of our network is used
but the entry: table, names, padding, norms and residuals are written again.
"""

import math

import numpy as np
import pytest
import torch
from torch.nn import functional

from mvjax.evaluation import efficientnet

# Tan & Le 2019, table 1, with Lite0's fixed stem and head: expansion, kernel,
# stride, channels, repeats.
_TABLE = (
  (1, 3, 1, 16, 1),
  (6, 3, 2, 24, 2),
  (6, 5, 2, 40, 2),
  (6, 3, 2, 80, 3),
  (6, 5, 1, 112, 3),
  (6, 5, 2, 192, 4),
  (6, 3, 1, 320, 1),
)


def blocks():
  """(inputs, expansion, kernel, stride, outputs) of every block."""
  inputs = 32
  for expansion, kernel, stride, outputs, repeats in _TABLE:
    for i in range(repeats):
      yield inputs, expansion, kernel, 1 if i else stride, outputs
      inputs = outputs


def random_layer(rng, conv, norm, shape):
  """A convolution whose outputs keep their scale, and its batch norm."""
  outputs = shape[0]
  return {
    f"{conv}.weight": rng.normal(0, math.sqrt(2 / math.prod(shape[1:])), shape),
    f"{norm}.weight": rng.uniform(0.8, 1.2, outputs),
    f"{norm}.bias": rng.normal(0, 0.2, outputs),
    f"{norm}.running_mean": rng.normal(0, 0.2, outputs),
    f"{norm}.running_var": rng.uniform(0.5, 1.5, outputs),
  }


@pytest.fixture(scope="module")
def state():
  rng = np.random.default_rng(0)
  found = random_layer(rng, "_conv_stem", "_bn0", (32, 3, 3, 3))
  for i, (inputs, expansion, kernel, _, outputs) in enumerate(blocks()):
    name, hidden = f"_blocks.{i}", inputs * expansion
    if expansion > 1:
      found |= random_layer(
        rng, f"{name}._expand_conv", f"{name}._bn0", (hidden, inputs, 1, 1)
      )
    found |= random_layer(
      rng,
      f"{name}._depthwise_conv",
      f"{name}._bn1",
      (hidden, 1, kernel, kernel),
    )
    found |= random_layer(
      rng, f"{name}._project_conv", f"{name}._bn2", (outputs, hidden, 1, 1)
    )
  found |= random_layer(rng, "_conv_head", "_bn1", (1280, 320, 1, 1))
  return {key: value.astype(np.float32) for key, value in found.items()}


def layer(state, x, conv, norm, *, stride=1, groups=1):
  """TensorFlow's SAME padding, convolution, batch norm."""
  weight = state[f"{conv}.weight"]
  pads = []
  for size, kernel in zip(x.shape[:1:-1], weight.shape[:1:-1], strict=True):
    total = max((math.ceil(size / stride) - 1) * stride + kernel - size, 0)
    pads += [total // 2, total - total // 2]
  x = functional.conv2d(
    functional.pad(x, pads), weight, stride=stride, groups=groups
  )
  return functional.batch_norm(
    x,
    *(
      state[f"{norm}.{part}"]
      for part in ("running_mean", "running_var", "weight", "bias")
    ),
    eps=1e-3,
  )


def theirs(state, images):
  state = {key: torch.from_numpy(value) for key, value in state.items()}
  x = torch.from_numpy(images).permute(0, 3, 1, 2)
  x = functional.relu6(layer(state, x, "_conv_stem", "_bn0", stride=2))
  for i, (inputs, expansion, _, stride, outputs) in enumerate(blocks()):
    name, out = f"_blocks.{i}", x
    if expansion > 1:
      out = layer(state, out, f"{name}._expand_conv", f"{name}._bn0")
      out = functional.relu6(out)
    out = functional.relu6(
      layer(
        state,
        out,
        f"{name}._depthwise_conv",
        f"{name}._bn1",
        stride=stride,
        groups=out.shape[1],
      )
    )
    out = layer(state, out, f"{name}._project_conv", f"{name}._bn2")
    x = out + x if stride == 1 and inputs == outputs else out
  x = functional.relu6(layer(state, x, "_conv_head", "_bn1"))
  return x.mean((2, 3)).numpy()


# An odd size pads otherwise than an even one.
@pytest.mark.parametrize("size", [64, 75])
def test_features_of_the_whole_network(state, size):
  rng = np.random.default_rng(size)
  images = rng.uniform(-1, 1, (3, size, size, 3)).astype(np.float32)
  expected = theirs(state, images)
  found = efficientnet.pooled_features(efficientnet.from_torch(state), images)
  scale = np.abs(expected).max()
  assert expected.std(0).max() > 1e-2 * scale
  np.testing.assert_allclose(found, expected, atol=2e-4 * scale)
