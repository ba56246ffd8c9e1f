"""All pages of an --out folder: one beside each result, and the index."""

import base64
import os
import pathlib
import shlex
from collections.abc import Mapping, Sequence

import tqdm

from mvjax import atomic
from mvjax.pages import index, results, shared

PAGE = shared.PAGE
TABLE = "table.json"
"""The record beside a table's page, which `mvjax.table` writes."""

# Numbers of every result: by the name of its folder, then of the metric.
Metrics = Mapping[str, Mapping[str, float | int | None]]


def build(
  out: str | os.PathLike, *, metrics: Metrics | None = None
) -> pathlib.Path:
  """Writes the page of every result in a folder, and the index.

  Pages are made anew each time: they cost milliseconds, and so they never
  tell of an older state of their folder.

  Args:
    out: folder of result folders.
    metrics: figures to show beside those in the records.

  Returns:
    The path of the index.

  Raises:
    FileNotFoundError: there is no such folder.
    ValueError: it holds no result, one that cannot be read, or a page that
      this program did not write.
  """
  out = pathlib.Path(out)
  shared.check_place(out)
  entries = write_pages(results.read_all(out), root=out, metrics=metrics)
  return index.write(out, entries, title=out.resolve().name)


def page_of_table(out: str | os.PathLike) -> pathlib.Path | None:
  """The page that `evaluate --table` wrote into a folder; None if it did not.

  It is shown as it is: it needs the figures of all rows.

  Raises:
    FileNotFoundError: the table is there and its page is not.
  """
  out = pathlib.Path(out)
  if not (out / TABLE).is_file():
    return None
  if not (out / index.NAME).is_file():
    raise FileNotFoundError(
      f"out={out}: the table has no {index.NAME}; repeat `launch.py evaluate "
      "--table`, which keeps what it measured"
    )
  return out / index.NAME


def announce(page: pathlib.Path) -> None:
  """Prints where the index is and how to open it."""
  print(
    f"pages: open {page.resolve().as_uri()} in a browser, or serve them on "
    f"127.0.0.1:\n  python launch.py view --out={shlex.quote(str(page.parent))}"
  )


def write_pages(
  found: Sequence[results.Result],
  *,
  root: pathlib.Path,
  metrics: Metrics | None = None,
) -> list[index.Entry]:
  """Writes a page into every result's folder.

  Args:
    found: results below `root`.
    root: folder of the index, which is to be written afterwards: it brings
      the files that the pages share.
    metrics: figures to show beside those in the records.

  Returns:
    The entries for `index.write`.
  """
  for result in found:
    shared.check_page(result.folder / PAGE)
  entries = []
  for result in tqdm.tqdm(found, desc="pages", unit="page"):
    more = (metrics or {}).get(result.folder.name, {})
    result = results.with_metrics(result, more)
    _write_page(result, root)
    place = pathlib.PurePath(os.path.relpath(result.folder, root)).as_posix()
    entries.append(
      index.Entry(
        title=result.title,
        folder=place,
        thumbnail=result.thumbnail and f"{place}/{result.thumbnail}",
        note="" if result.seed is None else f"seed {result.seed}",
        metrics=result.metrics,
      )
    )
  return entries


def _write_page(result: results.Result, root: pathlib.Path) -> None:
  up = pathlib.PurePath(os.path.relpath(root, result.folder)).as_posix()
  glb = ""
  if result.glb:
    content = (result.folder / result.glb).read_bytes()
    glb = base64.b64encode(content).decode("ascii")
  text = shared.render(
    "result.html",
    title=result.title,
    result=result,
    files=f"{up}/{shared.FILES}",
    index=f"{up}/{index.NAME}",
    glb=glb,
  )
  atomic.write_text(result.folder / PAGE, text)
