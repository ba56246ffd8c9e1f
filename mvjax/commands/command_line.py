"""What launch.py runs: it parses flags and calls one function.

Commands that take `--config=FILE.py:VARIANT` also take
`--config.section.field=value` for every field of that file.
"""

import os
import sys
from collections.abc import Mapping
from typing import Any

from mvjax import atomic
from mvjax.commands import (
  curves,
  data,
  environment,
  evaluate,
  figure,
  flags,
  models,
  plan,
  reconstruct,
  sample,
  train,
  view,
)

# Flags that say where to write.
_PLACES = ("out", "workdir")
# Characters of an error.
_LONGEST = 900


def main(*, cannot_write: int) -> int:
  """Runs the command in sys.argv; what users can put right is one line.

  Args:
    cannot_write: exit code where nothing more can be written.

  Returns:
    The exit code; 2 for wrong input.
  """
  values = {}
  try:
    options, rest = make_parser().parse_known_args()
    values = vars(options)
    command, config_flag = values.pop("command"), values.pop("config_flag")
    environment.prepare()
    if config_flag:
      values[config_flag] = flags.parse_config(rest, config_flag)
    elif rest:
      raise ValueError(f"unexpected argument {rest[0]!r}; see --help")
    for place in _PLACES:
      if values.get(place) == "":
        raise ValueError(f"{place}='': names no place; give a folder or file")
    command(**values)
  except Exception as error:
    line = explain(error, values)
    if line is None:
      raise
    print(f"error: {one_line(line)}", file=sys.stderr, flush=True)
    return cannot_write if _full(error) else 2
  return 0


def one_line(text: str) -> str:
  """A text that may quote a file, as a terminal can show it: begin and end."""
  line = "".join(x if x.isprintable() else " " for x in text)
  if len(line) <= _LONGEST:
    return line
  return f"{line[: _LONGEST // 2]} ... {line[-_LONGEST // 4 :]}"


def explain(error: BaseException, values: Mapping[str, Any]) -> str | None:
  """One line about what a user can put right; None for other errors.

  Args:
    error: of a command.
    values: the command's flags.
  """
  full = _full(error)
  if full is not None:
    place = next((f for f in _PLACES if values.get(f)), None)
    where = f"{place}={values[place]}: " if place else ""
    return (
      f"{where}{full}; make room or let it be written, and repeat the command: "
      "what is complete is kept"
    )
  if isinstance(error, OSError) and error.errno:
    path = error.filename2 or error.filename
    return f"{path}: {error.strerror}" if path else error.strerror
  if isinstance(error, ValueError | FileNotFoundError):
    return str(error)
  return None


def _full(error: BaseException | None) -> str | None:
  """What the system says if nothing more can be written, or None.

  Libraries in C++ only quote it.
  """
  while error is not None:
    for code in atomic.FULL:
      if getattr(error, "errno", None) == code or os.strerror(code) in str(
        error
      ):
        path = getattr(error, "filename", None)
        return os.strerror(code) + (f" ({path})" if path else "")
    error = error.__cause__ or error.__context__
  return None


def make_parser() -> flags.Parser:
  """All commands and their flags."""
  parser = flags.Parser(
    prog="launch.py",
    description="data, train, sample, reconstruct, evaluate and more",
    allow_abbrev=False,
  )
  commands = parser.add_subparsers(required=True, metavar="COMMAND")
  data.add(commands)
  train.add(commands)
  curves.add(commands)
  plan.add(commands)
  models.add_export(commands)
  models.add_convert(commands)
  sample.add(commands)
  reconstruct.add(commands)
  evaluate.add(commands)
  figure.add(commands)
  view.add(commands)
  return parser
