"""Floating-point operations of a traced program, loops included."""

import math
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
  return of_program(jax.make_jaxpr(fun)(*args).jaxpr)


def of_program(jaxpr: Any) -> tuple[int, int]:
  """`count` of a function that has been traced already."""
  total = once = 0
  for equation in jaxpr.eqns:
    own = _own(equation)
    inner = [of_program(sub) for sub in _jaxprs(equation)]
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
