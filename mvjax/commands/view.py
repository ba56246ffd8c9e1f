"""`launch.py view`: result pages, for this machine only."""

import argparse

from mvjax.commands import flags


def add(commands) -> None:
  """Adds `view`."""
  view = flags.command(commands, "view", view_results)
  view.add_argument(
    "--out", required=True, help="--out of `sample`: folder of result folders"
  )
  view.add_argument(
    "--metrics", help="consistency.json of `evaluate`: figures to sort by"
  )
  view.add_argument("--port", type=int, default=8000, help="0: any free one")
  view.add_argument(
    "--serve",
    action=argparse.BooleanOptionalAction,
    default=True,
    help="on 127.0.0.1; otherwise the pages are only written",
  )


def view_results(out: str, metrics: str | None, port: int, serve: bool) -> None:
  """Writes the result pages of a folder and serves them on 127.0.0.1."""
  import pathlib

  from mvjax.pages import results, server, site

  figures = results.read_metrics(metrics, out) if metrics else None
  page = site.build(out, metrics=figures)
  if serve:
    server.serve(pathlib.Path(out), port)
  else:
    site.announce(page)
