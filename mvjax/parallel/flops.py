"""Floating-point operations of a traced program, loops included."""

import math
from collections.abc import Callable
from typing import Any

import jax
from jax.extend import core


def count(fun: Any, *args: Any) -> tuple[int, int]:
  """FLOPs of the matrix products and convolutions of `fun(*args)`.

  Of a `cond` only the dearest branch counts: branches are alternatives, of
  platforms for instance. A `while` loop of unknown length counts once.

  Args:
    fun: a traceable function.
    *args: its arguments, or their shapes.

  Returns:
    The FLOPs, and what they were if the body of every loop ran once.
  """
  return _of(jax.make_jaxpr(fun)(*args).jaxpr)


def of_gradient(fun: Callable[..., Any], point: Any, *args: Any) -> int:
  """FLOPs of a function and its gradient, with nothing computed again.

  Counted in forward mode: its tangents are the transposed products of the
  backward pass, one for one, and it needs no checkpoints. A model's FLOPs are
  not those by which memory is saved (PaLM, arXiv:2204.02311, appendix B).

  Args:
    fun: a traceable function.
    point: its first argument, by which it is differentiated: a tree of
      floating-point arrays, or their shapes.
    *args: the others.
  """

  def both(value: Any, tangent: Any, *rest: Any) -> Any:
    return jax.jvp(lambda at: fun(at, *rest), (value,), (tangent,))

  return count(both, point, point, *args)[0]


def _of(jaxpr: Any) -> tuple[int, int]:
  total = once = 0
  for equation in jaxpr.eqns:
    own = _own(equation)
    inner = [_of(sub) for sub in _jaxprs(equation)]
    if equation.primitive.name == "cond":
      inner = [max(inner, default=(0, 0))]
    length = 1
    if equation.primitive.name == "scan":
      length = equation.params["length"]
    total += own + length * sum(pair[0] for pair in inner)
    once += own + sum(pair[1] for pair in inner)
  return total, once


def _jaxprs(equation: Any) -> list[Any]:
  """Programs inside an equation: bodies and branches."""
  found = []
  for value in equation.params.values():
    for item in value if isinstance(value, tuple | list) else [value]:
      if isinstance(item, core.ClosedJaxpr):
        found.append(item.jaxpr)
      elif isinstance(item, core.Jaxpr):
        found.append(item)
  return found


def _own(equation: Any) -> int:
  name = equation.primitive.name
  if name == "dot_general":
    (contracted, _), _ = equation.params["dimension_numbers"]
    shape = equation.invars[0].aval.shape
    inner = math.prod(shape[axis] for axis in contracted)
    return 2 * inner * math.prod(equation.outvars[0].aval.shape)
  if name == "conv_general_dilated":
    kernel = equation.invars[1].aval.shape
    numbers = equation.params["dimension_numbers"].rhs_spec
    # [out, in, spatial..] by position: all but the output channels.
    inner = math.prod(kernel[axis] for axis in numbers[1:])
    dilation = math.prod(equation.params["lhs_dilation"])
    outputs = math.prod(equation.outvars[0].aval.shape)
    # A dilated input is mostly zeros, which no one multiplies.
    return 2 * inner * outputs // dilation
  return 0
