"""What all commands share: parsers, config files, types of flags."""

import argparse

from absl import flags as absl_flags
from ml_collections import config_dict, config_flags


class Parser(argparse.ArgumentParser):
  """A parser whose complaint is an error like others: one line."""

  def error(self, message: str):
    """Raises ValueError."""
    raise ValueError(f"{message}; see {self.prog} --help")


def group(commands, name: str, summary: str):
  """A command that has commands of its own."""
  parser = commands.add_parser(name, help=summary, description=summary)
  return parser.add_subparsers(required=True, metavar="COMMAND")


class _Help(argparse.ArgumentDefaultsHelpFormatter):
  """Shows the defaults that say something."""

  def _get_help_string(self, action: argparse.Action) -> str | None:
    if action.default is None:
      return action.help
    return super()._get_help_string(action)


def command(commands, name: str, function, *, config: str = ""):
  """A sub-command that calls `function` with its flags as keywords.

  Args:
    commands: of the parser above it.
    name: of the sub-command.
    function: its docstring is the help.
    config: flag for a config file, whose record is a keyword too, or ''.
  """
  summary = function.__doc__.splitlines()[0]
  parser = commands.add_parser(
    name,
    help=summary,
    description=summary,
    allow_abbrev=False,
    usage=f"launch.py ... {name} --{config}=FILE.py[:VARIANT] "
    f"[--{config}.SECTION.FIELD=VALUE ...] [flags]"
    if config
    else None,
    formatter_class=_Help,
  )
  parser.set_defaults(command=function, config_flag=config)
  return parser


def parse_config(
  arguments: list[str], name: str = "config"
) -> config_dict.ConfigDict:
  """Reads `--<name>=FILE:VARIANT` and its `--<name>.x.y=value` overrides.

  ml_collections takes the overrides from sys.argv, which holds `arguments`.

  Raises:
    ValueError: No config, an unknown field, or a value of the wrong type.
  """
  values = absl_flags.FlagValues()
  config_flags.DEFINE_config_file(name, flag_values=values, lock_config=True)
  try:
    rest = values(["launch.py", *arguments])[1:]
    config = values[name].value
    if config is not None:
      config.lock()  # a file that could not be read raises here
  except (AttributeError, KeyError) as error:
    field = error.args[0]
    raise ValueError(f"{name} has no field {field}; see the file") from error
  except (absl_flags.Error, TypeError, OSError) as error:
    # The flag's message quotes the traceback of an error in the file.
    reason = str(error).strip().splitlines()[-1].strip()
    raise ValueError(reason.removeprefix("ValueError: ")) from error
  if rest:
    raise ValueError(f"unexpected argument {rest[0]!r}; see --help")
  if config is None:
    raise ValueError(f"{name} is missing; pass --{name}=FILE.py[:VARIANT]")
  return config


def words(text: str) -> tuple[str, ...]:
  """Type of a flag that lists words: 'a,b'."""
  return tuple(word for word in text.split(",") if word)


def labelled(pairs: list[str], field: str) -> dict[str, str]:
  """Folders by label, from LABEL=FOLDER.

  Raises:
    ValueError: One has no label or no folder, or a label is there twice.
  """
  split = [pair.partition("=")[::2] for pair in pairs]
  found = {label: folder for label, folder in split}
  if len(found) < len(split) or not all(a and b for a, b in split):
    raise ValueError(
      f"{field}={pairs}: each must be LABEL=FOLDER, once a label"
    )
  return found


def integers(text: str) -> tuple[int, ...]:
  """Type of a flag that lists whole numbers: '0,1'."""
  return tuple(int(number) for number in text.split(","))
