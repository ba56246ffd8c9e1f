"""`launch.py view`: result pages, for this machine only."""

import argparse

from mvjax.commands import flags


def add(commands) -> None:
  """Adds `view`."""
  view = flags.command(commands, "view", view_results)
  view.add_argument(
    "--out",
    required=True,
    help="--out of `sample` (result folders) or of `evaluate --table`",
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
  """Serves the pages of a folder on 127.0.0.1; makes those of results anew."""
  import pathlib

  from mvjax.pages import results, server, site

  page = site.page_of_table(out)
  if page is None:
    figures = results.read_metrics(metrics, out) if metrics else None
    page = site.build(out, metrics=figures)
  elif metrics:
    raise ValueError(
      f"metrics={metrics}: the page of the table in {out} has its own figures; "
      "leave --metrics out"
    )
  if serve:
    server.serve(pathlib.Path(out), port)
  else:
    site.announce(page)
