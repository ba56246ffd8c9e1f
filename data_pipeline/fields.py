"""JSON that others wrote: each value has its type, or one line says which not.

`Fields` is a JSON object that knows where it stands, so that an error names the
file and the way to the value: `transforms.json: frames[3].file_path`.
"""

import dataclasses
import json
import pathlib
import reprlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float

_KINDS = {
  str: "a text",
  bool: "true or false",
  int: "a whole number",
  float: "a finite number",
  list: "a list",
  dict: "an object",
}
_REQUIRED = object()
# Characters of a wrong value.
_SHOWN = 80


def parse(text: str | bytes, where: object) -> Any:
  """The value of a JSON text.

  Raises:
    ValueError: it is none, or nested too deeply.
  """
  try:
    return json.loads(text)
  except (ValueError, RecursionError) as error:
    raise ValueError(
      f"{where}: is no JSON ({error}); write it again"
    ) from error


@dataclasses.dataclass(frozen=True, kw_only=True)
class Fields:
  """An object of a JSON file.

  Attributes:
    content: its values.
    where: the file, and the line if it has one.
    place: the way to the object in there, with a dot at its end; '' is the top.
  """

  content: Mapping[str, Any]
  where: str
  place: str = ""

  @classmethod
  def of(cls, content: Any, where: object) -> "Fields":
    """A value that must be an object.

    Raises:
      ValueError: it is something else.
    """
    if not isinstance(content, dict):
      raise ValueError(
        f"{where}: is {_short(content)}; must be an object, such as "
        '{"name": "a sofa"}'
      )
    return cls(content=content, where=str(where))

  @classmethod
  def read(cls, path: pathlib.Path, where: str | None = None) -> "Fields":
    """The object in a file; `where` is what errors call it, if not its path.

    Raises:
      ValueError: it cannot be read, or is something else.
    """
    where = where or str(path)
    try:
      text = path.read_bytes()
    except OSError as error:
      raise ValueError(f"{where}: cannot be read ({error.strerror})") from error
    return cls.of(parse(text, where), where)

  def get(self, name: str, kind: type, default: Any = _REQUIRED) -> Any:
    """A value of one of the JSON types; whole numbers are numbers.

    Args:
      name: of the field.
      kind: str, bool, int, float, list or dict.
      default: if it is absent or null; without one it must be there.

    Raises:
      ValueError: it is absent, or of another type.
    """
    value = self.content.get(name)
    if value is None and default is not _REQUIRED:
      return default
    if not _is(value, kind):
      raise self.error(name, f"must be {_KINDS[kind]}")
    return value

  def number(
    self,
    name: str,
    *,
    low: int | float,
    high: int | float,
    default: Any = _REQUIRED,
  ) -> Any:
    """A number of the bounds' type that is not outside of them; see `get`."""
    value = self.get(name, type(low), default)
    if value is not default and not low <= value <= high:
      raise self.error(name, f"must be {low:.6g} to {high:.6g}")
    return value

  def words(self, name: str) -> str:
    """A text with something in it."""
    value = self.get(name, str)
    if not value.strip():
      raise self.error(name, "must have letters in it")
    return value

  def texts(self, name: str) -> tuple[str, ...]:
    """One or more texts."""
    found = self.get(name, list)
    if not found or not all(_is(text, str) and text.strip() for text in found):
      raise self.error(name, "must be a list of one or more texts")
    return tuple(found)

  def object(self, name: str) -> "Fields":
    """An object."""
    return Fields(
      content=self.get(name, dict),
      where=self.where,
      place=f"{self.place}{name}.",
    )

  def objects(self, name: str) -> list["Fields"]:
    """A list of objects."""
    return [
      Fields.of(item, f"{self.where}: {self.place}{name}[{i}]").at(
        self.where, f"{self.place}{name}[{i}]."
      )
      for i, item in enumerate(self.get(name, list))
    ]

  def objects_by_name(self, name: str) -> dict[str, "Fields"]:
    """An object of objects; empty if it is absent."""
    return {
      key: Fields.of(item, f"{self.where}: {self.place}{name}.{key}")
      for key, item in self.get(name, dict, {}).items()
    }

  def matrix(
    self, name: str, rows: int, columns: int
  ) -> Float[np.ndarray, "rows columns"]:
    """Rows of numbers, which need not be finite."""
    found = self.get(name, list)
    try:
      value = np.asarray(found)
      good = value.shape == (rows, columns) and value.dtype.kind in "iuf"
    except (OverflowError, ValueError):  # Rows of different lengths.
      good = False
    if not good:
      raise self.error(name, f"must be {rows} rows of {columns} numbers")
    return value.astype(np.float64)

  def at(self, where: str, place: str) -> "Fields":
    """The same object, said to stand elsewhere."""
    return dataclasses.replace(self, where=where, place=place)

  def over(self, defaults: "Fields") -> "Fields":
    """The same object with another's values for what it lacks."""
    return dataclasses.replace(self, content=defaults.content | self.content)

  def error(self, name: str, problem: str) -> ValueError:
    """One line with file, field, value and what is wrong with it."""
    given = "is missing; it"
    if name in self.content:
      given = f"is {_short(self.content[name])}; it"
    return ValueError(f"{self.where}: {self.place}{name} {given} {problem}")


def _short(value: Any) -> str:
  text = reprlib.repr(value)
  return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def _is(value: Any, kind: type) -> bool:
  if isinstance(value, bool) or kind is bool:
    return isinstance(value, bool) and kind is bool
  if kind is float:
    # Neither NaN nor a whole number that no float can hold.
    return isinstance(value, (int, float)) and abs(value) < 1e300
  if kind is str and isinstance(value, str):
    # JSON can hold halves of characters, which nothing can write.
    return not any("\ud800" <= letter <= "\udfff" for letter in value)
  return isinstance(value, kind)
