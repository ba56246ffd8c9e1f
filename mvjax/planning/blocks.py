"""Takes a program apart into the networks' blocks, each kind once.

A program is traced once, and every call of a block is written down with its
module and the shapes of its inputs. Calls that are equal in all of that are
one kind, which is compiled once and counted as often as it is called. What is
between the blocks (noise, skips, the loss, the optimiser) is not in them.
"""

import collections
import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding

from mvjax.nn import (
  attention,
  blocks,
  epipolar,
  layers,
  text_encoder,
  unet,
  vae,
)
from mvjax.parallel import logical, rules

# The blocks, and which of their inputs depend on trained parameters.
UNITS: dict[type[nn.Module], tuple[int, ...]] = {
  attention.SpatialTransformer: (0,),
  blocks.ResnetBlock: (0, 1),
  blocks.Downsample: (0,),
  blocks.Upsample: (0,),
  epipolar.EpipolarConsistencyBlock: (0, 1),
  layers.Conv: (0,),
  layers.Embedder: (0,),
  layers.GroupNorm: (0,),
  text_encoder.Layer: (0,),
  vae.PixelAttention: (0,),
}
# What models call the networks.
NETWORKS: dict[type[nn.Module], str] = {
  unet.UNet: "unet",
  text_encoder.TextEncoder: "text_encoder",
  vae.VAE: "vae",
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Block:
  """A kind of block.

  Attributes:
    kind: equal for calls that are compiled to one program.
    group: equal for blocks of one class, network and resolution.
    path: of the first one's parameters, the network's name first.
    module: unbound.
    params: shapes of its parameters.
    inputs: shapes of its inputs.
    network: that it is part of, a value of `NETWORKS`.
    remat: what it keeps for its backward, a key of `nn.unet.REMAT`.
    count: how often the program calls one.
  """

  kind: str
  group: tuple[Any, ...]
  path: str
  module: nn.Module
  params: Any
  inputs: tuple[Any, ...]
  network: str
  remat: str
  count: int


def find(fun: Callable[..., Any], *args: Any) -> list[Block]:
  """The kinds of blocks that a function calls, in order.

  Args:
    fun: a traceable function; a scanned body counts once.
    *args: its arguments, or their shapes.
  """
  calls: dict[str, Block] = {}
  counts: collections.Counter[str] = collections.Counter()
  with _recorded(calls, counts):
    jax.eval_shape(fun, *args)
  return [
    dataclasses.replace(block, count=counts[key])
    for key, block in calls.items()
  ]


@contextlib.contextmanager
def _recorded(
  calls: dict[str, Block], counts: collections.Counter[str]
) -> Iterator[None]:
  inside = False
  network: Any = None

  def intercept(call, args, kwargs, context):
    nonlocal inside, network
    module = context.module
    if isinstance(module, tuple(NETWORKS)) and network is None:
      network = module
      try:
        return call(*args, **kwargs)
      finally:
        network = None
    unit = isinstance(module, tuple(UNITS))
    if inside or not unit or context.method_name != "__call__":
      return call(*args, **kwargs)
    inside = True
    try:
      result = call(*args, **kwargs)
    finally:
      inside = False
    # Without a parent it is in a remat: the network's.
    lifted = not isinstance(module.parent, nn.Module)
    remat = network.remat if lifted else "none"
    inputs, params = _shapes((args, dict(module.variables.get("params", {}))))
    free = module.clone(parent=None, name=None)
    name = NETWORKS[type(network)]
    kind = repr((free, params, inputs, name, remat))
    block = Block(
      kind=kind,
      group=(name, type(free).__name__, inputs[0].shape[:-1]),
      path="/".join((name, *module.path)),
      module=free,
      params=params,
      inputs=inputs,
      network=name,
      remat=remat,
      count=0,
    )
    calls.setdefault(kind, block)
    counts[kind] += 1
    return result

  with nn.intercept_methods(intercept):
    yield


def _shapes(tree: Any) -> Any:
  return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), tree)


def forward(block: Block) -> Callable[..., Any]:
  """(params, *inputs) -> output of a block."""

  def apply(params, *inputs):
    return block.module.apply({"params": params}, *inputs)

  if block.remat != "none":
    apply = jax.checkpoint(apply, policy=unet.REMAT[block.remat])

  def run(params, *inputs):
    return logical.constrain(apply(params, *inputs), "batch")

  return run


def gradient(block: Block, *, learns: bool) -> Callable[..., Any]:
  """(params, *inputs) -> output, gradients of inputs and perhaps parameters.

  Forward and backward; the output stands in for its cotangent.

  Args:
    block: the block.
    learns: whether its parameters are trained.
  """

  def run(params, *inputs):
    apply, moving = _parted(block, params, inputs, learns=learns)
    output, pull = jax.vjp(apply, *moving)
    return output, pull(output)

  return run


def saved_bytes(block: Block, *, learns: bool, mesh: Mesh) -> int:
  """Bytes a device keeps between a block's forward and its backward.

  Counts what automatic differentiation stores, except the parameters and
  casts of them; the compiler may store less.
  """

  def residuals(params, *inputs):
    apply, moving = _parted(block, params, inputs, learns=learns)
    return jax.vjp(apply, *moving)[1]

  leaves = jax.tree.leaves(
    jax.eval_shape(residuals, block.params, *block.inputs)
  )
  weights = {leaf.size for leaf in jax.tree.leaves(block.params)}
  views = block.inputs[0].shape[:1]
  total = sum(
    leaf.size * jnp.dtype(leaf.dtype).itemsize
    for leaf in leaves
    if leaf.size not in weights or leaf.shape[:1] == views
  )
  return total // _shards(block, mesh)


def arguments(block: Block, *, mesh: Mesh, whole: bool) -> tuple[Any, ...]:
  """Parameters and inputs of a block as they lie on a mesh.

  Args:
    block: the block.
    mesh: where.
    whole: whether all parameters are on every device, as in sampling.
  """
  replicated = NamedSharding(mesh, jax.P())
  shardings = rules.parameter_shardings(block.params, mesh)
  if whole:
    shardings = jax.tree.map(lambda _: replicated, shardings)
  params = jax.tree.map(_placed, block.params, shardings)
  inputs = tuple(_divided(value, mesh) for value in block.inputs)
  return params, *inputs


def gradient_shardings(
  args: tuple[Any, ...], block: Block, *, learns: bool
) -> Any:
  """Output shardings of `gradient`: those of what is differentiated."""
  params, *inputs = jax.tree.map(lambda leaf: leaf.sharding, args)
  moving = tuple(inputs[i] for i in _differentiated(block))
  return None, (params, *moving) if learns else moving


def _parted(
  block: Block, params: Any, inputs: tuple[Any, ...], *, learns: bool
) -> tuple[Callable[..., Any], tuple[Any, ...]]:
  """The block as a function of what is differentiated, and that."""
  indices = _differentiated(block)

  def apply(*moving):
    used, moving = (moving[0], moving[1:]) if learns else (params, moving)
    given = list(inputs)
    for index, value in zip(indices, moving, strict=True):
      given[index] = value
    return forward(block)(used, *given)

  moving = tuple(inputs[i] for i in indices)
  return apply, (params, *moving) if learns else moving


def _differentiated(block: Block) -> tuple[int, ...]:
  indices = next(v for k, v in UNITS.items() if isinstance(block.module, k))
  return tuple(
    i
    for i in indices
    if i < len(block.inputs)
    and isinstance(block.inputs[i], jax.ShapeDtypeStruct)
  )


def _divided(value: Any, mesh: Mesh) -> Any:
  """An input with its places: maps and tokens lead with the views of all
  examples, the arrays of camera features with examples, then views.
  """
  plain = isinstance(value, jax.ShapeDtypeStruct)
  names = ("batch",) if plain else ("batch", "view")

  def place(leaf):
    spec = logical.spec(names[: leaf.ndim], leaf.shape, mesh.shape)
    return _placed(leaf, NamedSharding(mesh, spec))

  return jax.tree.map(place, value)


def _placed(leaf: Any, sharding: NamedSharding) -> jax.ShapeDtypeStruct:
  return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)


def _shards(block: Block, mesh: Mesh) -> int:
  """Over how many devices a block's first input is divided."""
  leaf = block.inputs[0]
  spec = logical.spec(("batch",), leaf.shape, mesh.shape)
  placed = NamedSharding(mesh, spec).shard_shape(leaf.shape)
  return leaf.shape[0] // placed[0]
