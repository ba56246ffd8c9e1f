"""What launch.py runs: it parses flags and calls one function.

Commands that take `--config=FILE.py:VARIANT` also take
`--config.section.field=value` for every field of that file.
"""

import sys

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


def main() -> int:
  """Runs the command in sys.argv; wrong input is one line and exit code 2."""
  try:
    options, rest = make_parser().parse_known_args()
    values = vars(options)
    command, config_flag = values.pop("command"), values.pop("config_flag")
    environment.prepare()
    if config_flag:
      values[config_flag] = flags.parse_config(rest, config_flag)
    elif rest:
      raise ValueError(f"unexpected argument {rest[0]!r}; see --help")
    command(**values)
  except (ValueError, FileNotFoundError) as error:
    print(f"error: {error}", file=sys.stderr)
    return 2
  return 0


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
