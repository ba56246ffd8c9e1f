"""Ways to run our UNet on XLA:CPU that are tried for speed, by name.

An option changes the convolution, the attention, XLA's flags or the devices.
What wins here moves to the networks; nothing here is used by them.
"""

import functools

import jax
import jax.numpy as jnp

from mvjax.nn import attention, layers

_LAX_CONV, _EINSUM_ATTENTION = layers.conv2d, attention.attention


def shifted(x, kernel, *, strides, padding):
  """The maps as each kernel element sees them, in the kernel's order."""
  height, width = kernel.shape[:2]
  x = jnp.pad(x, ((0, 0), *padding, (0, 0)))
  size = [
    (x.shape[axis + 1] - kernel.shape[axis]) // strides[axis] + 1
    for axis in (0, 1)
  ]
  return [
    x[
      :,
      i : i + strides[0] * (size[0] - 1) + 1 : strides[0],
      j : j + strides[1] * (size[1] - 1) + 1 : strides[1],
    ]
    for i in range(height)
    for j in range(width)
  ]


def im2col(x, kernel, *, strides=(1, 1), padding=((0, 0), (0, 0))):
  """One matrix product over copies of the maps, side by side."""
  views = shifted(x, kernel, strides=strides, padding=padding)
  columns = jnp.concatenate(views, -1)
  return columns @ kernel.reshape(-1, kernel.shape[-1])


def shifted_products(x, kernel, *, strides=(1, 1), padding=((0, 0), (0, 0))):
  """A sum of one matrix product per kernel element."""
  views = shifted(x, kernel, strides=strides, padding=padding)
  weights = kernel.reshape(-1, *kernel.shape[2:])
  return sum(view @ weight for view, weight in zip(views, weights, strict=True))


def im2col_rows(x, kernel, *, rows, strides=(1, 1), padding=((0, 0), (0, 0))):
  """`im2col` on blocks of a few rows, whose copies stay in the cache."""
  n, height = x.shape[0], x.shape[1]
  if kernel.shape[:2] == (1, 1):
    return im2col(x, kernel, strides=strides, padding=padding)
  if strides != (1, 1) or padding[0] != (1, 1) or height % rows:
    return _LAX_CONV(x, kernel, strides=strides, padding=padding)
  x = jnp.pad(x, ((0, 0), *padding, (0, 0)))
  weights = kernel.reshape(-1, kernel.shape[-1])

  def block(start):
    part = jax.lax.dynamic_slice_in_dim(x, start, rows + 2, axis=1)
    views = shifted(part, kernel, strides=(1, 1), padding=((0, 0), (0, 0)))
    return jnp.concatenate(views, -1) @ weights

  blocks = jax.lax.map(block, jnp.arange(0, height, rows))
  return jnp.moveaxis(blocks, 0, 1).reshape(n, height, -1, kernel.shape[-1])


def by_shape(x, kernel, *, strides=(1, 1), padding=((0, 0), (0, 0))):
  """Plain at fine maps, `im2col` at coarse ones and for single pixels."""
  pointwise = kernel.shape[:2] == (1, 1)
  small = x.shape[1] <= 8 and strides == (1, 1)
  run = im2col if pointwise or small else _LAX_CONV
  return run(x, kernel, strides=strides, padding=padding)


def by_shape_rows(x, kernel, *, strides=(1, 1), padding=((0, 0), (0, 0))):
  """`im2col` at coarse maps, blocks of rows at fine ones."""
  small = x.shape[1] <= 8 and strides == (1, 1)
  run = im2col if small else functools.partial(im2col_rows, rows=4)
  return run(x, kernel, strides=strides, padding=padding)


def pointwise_products(x, kernel, *, strides=(1, 1), padding=((0, 0), (0, 0))):
  """Matrix products for single pixels, else plain."""
  run = im2col if kernel.shape[:2] == (1, 1) else _LAX_CONV
  return run(x, kernel, strides=strides, padding=padding)


def heads_first(query, key, *, value, mask=None):
  """Attention on transposed copies, heads before tokens."""
  del mask
  q, k, v = (jnp.swapaxes(x, 1, 2) for x in (query, key, value))
  logits = q @ jnp.swapaxes(k, -1, -2) * query.shape[-1] ** -0.5
  return jnp.swapaxes(jax.nn.softmax(logits, -1) @ v, 1, 2)


def heads_in_turn(query, key, *, value, mask=None):
  """Attention of one head of one map at a time."""
  del mask
  n, _, heads = query.shape[:3]
  q, k, v = (
    jnp.swapaxes(x, 1, 2).reshape(n * heads, x.shape[1], -1)
    for x in (query, key, value)
  )

  def one(inputs):
    q, k, v = inputs
    return jax.nn.softmax(q @ k.T * q.shape[-1] ** -0.5, -1) @ v

  y = jax.lax.map(one, (q, k, v))
  return jnp.swapaxes(y.reshape(n, heads, *y.shape[1:]), 1, 2)


def scaled_queries(query, key, *, value, mask=None):
  """The scale on the queries, which are fewer than the logits."""
  del mask
  q = query * query.shape[-1] ** -0.5
  weights = jax.nn.softmax(jnp.einsum("nqkd,nmkd->nkqm", q, key), -1)
  return jnp.einsum("nkqm,nmkd->nqkd", weights, value)


CONVOLUTIONS = {
  "conv-im2col": im2col,
  "conv-shifted": shifted_products,
  "conv-rows2": functools.partial(im2col_rows, rows=2),
  "conv-rows4": functools.partial(im2col_rows, rows=4),
  "conv-by-shape": by_shape,
  "conv-by-shape-rows": by_shape_rows,
  "conv-pointwise": pointwise_products,
}
ATTENTIONS = {
  "attention-heads-first": heads_first,
  "attention-in-turn": heads_in_turn,
  "attention-scaled-queries": scaled_queries,
}
# Of jaxlib 0.10.2; an unknown flag stops the program.
FLAGS = {
  "one-thread": "--xla_cpu_multi_thread_eigen=false",
  "width512": "--xla_cpu_prefer_vector_width=512",
  "fast-math": "--xla_cpu_enable_fast_math=true",
  "fast-runtime": "--xla_cpu_opt_preset=CPU_OPT_PRESET_FAST_RUNTIME",
  "concurrent": "--xla_cpu_scheduler_type=CPU_SCHEDULER_TYPE_"
  "CONCURRENCY_OPTIMIZED",
  "onednn": "--xla_cpu_use_onednn=true",
  "onednn-custom": "--xla_cpu_experimental_onednn_custom_call=true",
  "no-xnnpack": "--xla_cpu_use_xnnpack=false",
  "xnn-greedy": "--xla_cpu_experimental_xnn_graph_fusion_mode="
  "XNN_GRAPH_FUSION_MODE_GREEDY",
  "ynn-conv": "--xla_cpu_experimental_ynn_fusion_type=individual_convolution",
  "ynn-dot": "--xla_cpu_experimental_ynn_fusion_type=individual_dot",
  "ynn-both": "--xla_cpu_experimental_ynn_fusion_type="
  "individual_convolution,individual_dot",
}
TWO_DEVICES = "two-devices"
OPTIONS = (*CONVOLUTIONS, *ATTENTIONS, *FLAGS, TWO_DEVICES)


def install(options):
  """Gives our networks the convolution and attention of the options."""
  for option in options:
    layers.conv2d = CONVOLUTIONS.get(option, layers.conv2d)
    attention.attention = ATTENTIONS.get(option, attention.attention)
