"""`launch.py curves`: what validation measured along training runs."""

from mvjax.commands import flags


def add(commands) -> None:
  """Adds `curves`."""
  curves = flags.command(commands, "curves", draw_curves)
  curves.add_argument(
    "runs", nargs="+", metavar="LABEL=FOLDER", help="--workdir of `train` runs"
  )
  curves.add_argument("--out", required=True, help="PNG file to write")


def draw_curves(runs: list[str], out: str) -> None:
  """One picture: losses, and what other views explain of them, by steps."""
  from mvjax.training import curves

  curves.draw(flags.labelled(runs, "runs"), out)
