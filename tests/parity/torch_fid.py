"""The FID's Inception-v3 in PyTorch functions, straight from a state dict.

Written from the network's description: the blocks of Szegedy et al. 2015, with
average pooling that leaves the padding out and a maximum in the last block.
"""

import torch
from torch.nn import functional


class FidInception:
  """Features of images [n 3 299 299] in [-1, 1]."""

  def __init__(self, state):
    self._state = state

  def __call__(self, x):
    """Returns [n 2048]."""
    conv = self._conv
    x = conv(x, "Conv2d_1a_3x3", stride=2)
    x = conv(x, "Conv2d_2a_3x3")
    x = conv(x, "Conv2d_2b_3x3", padding=1)
    x = functional.max_pool2d(x, 3, stride=2)
    x = conv(x, "Conv2d_3b_1x1")
    x = conv(x, "Conv2d_4a_3x3")
    x = functional.max_pool2d(x, 3, stride=2)
    for name in ("Mixed_5b", "Mixed_5c", "Mixed_5d"):
      x = self._block_a(x, name)
    x = self._block_b(x, "Mixed_6a")
    for name in ("Mixed_6b", "Mixed_6c", "Mixed_6d", "Mixed_6e"):
      x = self._block_c(x, name)
    x = self._block_d(x, "Mixed_7a")
    x = self._block_e(x, "Mixed_7b", average)
    x = self._block_e(x, "Mixed_7c", maximum)
    return functional.adaptive_avg_pool2d(x, 1).flatten(1)

  def _conv(self, x, name, stride=1, padding=0):
    s = self._state
    x = functional.conv2d(
      x, s[f"{name}.conv.weight"], stride=stride, padding=padding
    )
    x = functional.batch_norm(
      x,
      s[f"{name}.bn.running_mean"],
      s[f"{name}.bn.running_var"],
      s[f"{name}.bn.weight"],
      s[f"{name}.bn.bias"],
      eps=1e-3,
    )
    return functional.relu(x)

  def _block_a(self, x, name):
    conv = self._conv
    five = conv(x, f"{name}.branch5x5_1")
    five = conv(five, f"{name}.branch5x5_2", padding=2)
    three = conv(x, f"{name}.branch3x3dbl_1")
    three = conv(three, f"{name}.branch3x3dbl_2", padding=1)
    three = conv(three, f"{name}.branch3x3dbl_3", padding=1)
    pool = conv(average(x), f"{name}.branch_pool")
    return torch.cat([conv(x, f"{name}.branch1x1"), five, three, pool], 1)

  def _block_b(self, x, name):
    conv = self._conv
    three = conv(x, f"{name}.branch3x3", stride=2)
    twice = conv(x, f"{name}.branch3x3dbl_1")
    twice = conv(twice, f"{name}.branch3x3dbl_2", padding=1)
    twice = conv(twice, f"{name}.branch3x3dbl_3", stride=2)
    return torch.cat([three, twice, functional.max_pool2d(x, 3, stride=2)], 1)

  def _block_c(self, x, name):
    conv, wide, high = self._conv, (0, 3), (3, 0)
    once = conv(x, f"{name}.branch7x7_1")
    once = conv(once, f"{name}.branch7x7_2", padding=wide)
    once = conv(once, f"{name}.branch7x7_3", padding=high)
    twice = conv(x, f"{name}.branch7x7dbl_1")
    for i, padding in ((2, high), (3, wide), (4, high), (5, wide)):
      twice = conv(twice, f"{name}.branch7x7dbl_{i}", padding=padding)
    pool = conv(average(x), f"{name}.branch_pool")
    return torch.cat([conv(x, f"{name}.branch1x1"), once, twice, pool], 1)

  def _block_d(self, x, name):
    conv = self._conv
    three = conv(x, f"{name}.branch3x3_1")
    three = conv(three, f"{name}.branch3x3_2", stride=2)
    seven = conv(x, f"{name}.branch7x7x3_1")
    seven = conv(seven, f"{name}.branch7x7x3_2", padding=(0, 3))
    seven = conv(seven, f"{name}.branch7x7x3_3", padding=(3, 0))
    seven = conv(seven, f"{name}.branch7x7x3_4", stride=2)
    return torch.cat([three, seven, functional.max_pool2d(x, 3, stride=2)], 1)

  def _block_e(self, x, name, pooling):
    conv, wide, high = self._conv, (0, 1), (1, 0)
    three = conv(x, f"{name}.branch3x3_1")
    twice = conv(x, f"{name}.branch3x3dbl_1")
    twice = conv(twice, f"{name}.branch3x3dbl_2", padding=1)
    parts = [
      conv(x, f"{name}.branch1x1"),
      conv(three, f"{name}.branch3x3_2a", padding=wide),
      conv(three, f"{name}.branch3x3_2b", padding=high),
      conv(twice, f"{name}.branch3x3dbl_3a", padding=wide),
      conv(twice, f"{name}.branch3x3dbl_3b", padding=high),
      conv(pooling(x), f"{name}.branch_pool"),
    ]
    return torch.cat(parts, 1)


def average(x):
  """Mean of the pixels that exist."""
  return functional.avg_pool2d(
    x, 3, stride=1, padding=1, count_include_pad=False
  )


def maximum(x):
  """Largest of the pixels that exist."""
  return functional.max_pool2d(x, 3, stride=1, padding=1)
