"""JSON files that say what a result was made of, and so whether to redo it."""

import json
import os
import pathlib
from collections.abc import Callable, Collection, Mapping
from typing import Any


def write(path: pathlib.Path, content: Mapping[str, Any]) -> None:
  """Writes JSON that people can read; not atomic, see `atomic`."""
  text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False)
  path.write_text(text + "\n", encoding="utf-8")


def check_own(path: pathlib.Path, keys: Collection[str]) -> None:
  """Refuses to replace a file that this program did not write.

  Args:
    path: JSON file that is going to be written.
    keys: some that every such file of this program has.

  Raises:
    ValueError: one line: something else is there.
  """
  if not os.path.lexists(path):
    return
  try:
    own = set(keys) <= json.loads(path.read_text(encoding="utf-8")).keys()
  except (OSError, ValueError, AttributeError):
    own = False
  if not own:
    raise foreign(path)


def foreign(path: pathlib.Path) -> ValueError:
  """The error about a file or folder of others in a place of ours."""
  return ValueError(
    f"{path}: is not of this program, which would replace it; move it away, or "
    "choose another folder"
  )


def check_same(
  path: pathlib.Path,
  wanted: Mapping[str, Any],
  *,
  made_of: Callable[[Any], dict[str, Any]],
  remedy: str,
) -> None:
  """Refuses a finished result that was made of something else.

  Args:
    path: its record.
    wanted: all that decides the result, as JSON values.
    made_of: from the record to the same of what is there.
    remedy: what the user can do.

  Raises:
    ValueError: one line: the folder, the first difference and the remedy.
  """
  try:
    found = made_of(json.loads(path.read_text(encoding="utf-8")))
  except (
    OSError,
    ValueError,
    KeyError,
    TypeError,
    RecursionError,
  ) as error:
    raise ValueError(
      f"{path.parent} has no {path.name} of this program; {remedy}"
    ) from error
  # Tuples are lists in JSON.
  wanted = json.loads(json.dumps(dict(wanted)))
  for key in sorted(wanted.keys() | found.keys()):
    if wanted.get(key) != found.get(key):
      raise ValueError(
        f"{path.parent} was made with {key}={found.get(key)!r}, asked for is "
        f"{wanted.get(key)!r}; {remedy}"
      )
