"""`launch.py figure`: one picture of several sample runs."""

from mvjax.commands import flags


def add(commands) -> None:
  """Adds `figure`."""
  figure = flags.command(commands, "figure", compare_runs)
  figure.add_argument(
    "rows", nargs="+", metavar="LABEL=FOLDER", help="--out of `sample` runs"
  )
  figure.add_argument("--out", required=True, help="PNG file to write")
  figure.add_argument("--seed", type=int, default=0)
  figure.add_argument("--views", type=int, default=4, help="shown per sample")


def compare_runs(rows: list[str], out: str, seed: int, views: int) -> None:
  """One picture: prompts by columns, runs of `sample` by rows."""
  from mvjax import atomic
  from mvjax.generation import figure

  pairs = flags.labelled(rows, "rows")
  atomic.check_file(out, "out")
  figure.compare(pairs, out, seed=seed, views=views)
