"""What the names and shapes of a file's tensors tell of its networks."""

from mvjax.weights import tensors as tensors_lib


def count(tensors: tensors_lib.Tensors, pattern: str) -> int:
  """How many of pattern.format(0), pattern.format(1), ... there are."""
  number = 0
  while pattern.format(number) in tensors:
    number += 1
  return number


def shape(
  tensors: tensors_lib.Tensors, name: str, *ndims: int
) -> tuple[int, ...]:
  """The shape of a tensor that has one of these numbers of axes.

  Raises:
    ValueError: there is no such tensor, or it has another number of axes.
  """
  if name not in tensors:
    raise ValueError(f"{name} is missing: is the file whole?")
  found = tensors[name].shape
  if len(found) not in ndims:
    raise ValueError(
      f"{name} has shape {tuple(found)}: expected "
      f"{' or '.join(map(str, ndims))} axes"
    )
  return tuple(found)
