"""The index page: thumbnails of many results, searched and sorted.

It needs no more than a list of entries, so that any program can make one:

    index.write(out, [index.Entry(title=..., folder=..., thumbnail=...,
                                  metrics={"psnr": 21.3})], title="a table")
"""

import dataclasses
import math
import os
import pathlib
from collections.abc import Mapping, Sequence

from mvjax import atomic
from mvjax.pages import shared

NAME = shared.PAGE


@dataclasses.dataclass(frozen=True, kw_only=True)
class Entry:
  """One result.

  Attributes:
    title: what is shown and searched, such as the prompt.
    folder: the result's folder, relative to the index; its page is the
      index.html in it.
    thumbnail: picture, relative to the index; None shows none.
    note: second line, searched too, such as method and seed.
    metrics: finite numbers by name; None where one could not be measured.
  """

  title: str
  folder: str
  thumbnail: str | None = None
  note: str = ""
  metrics: Mapping[str, float | int | None] = dataclasses.field(
    default_factory=dict
  )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Summary:
  """What stands above the results.

  Attributes:
    table: cells; the first row is its head.
    remarks: lines below it.
    pictures: relative to the index, such as plots.
  """

  table: Sequence[Sequence[str]]
  remarks: Sequence[str] = ()
  pictures: Sequence[str] = ()


def write(
  out: str | os.PathLike,
  entries: Sequence[Entry],
  *,
  title: str,
  summary: Summary | None = None,
) -> pathlib.Path:
  """Writes `<out>/index.html` and the files that pages share.

  Args:
    out: folder; the entries' paths are relative to it.
    entries: in the order in which they are shown at first.
    title: of the page.
    summary: of all results, or None.

  Returns:
    The path of the page.

  Raises:
    ValueError: a path is not relative, leaves `out`, a metric is not finite,
      or a page or page_files of others is there.
  """
  for entry in entries:
    _check(entry)
  out = pathlib.Path(out)
  shared.check_place(out)
  names = list(dict.fromkeys(name for e in entries for name in e.metrics))
  shared.copy_files(out)
  text = shared.render(
    "index.html",
    title=title,
    files=shared.FILES,
    entries=entries,
    summary=summary,
    metrics=names,
  )
  atomic.write_text(out / NAME, text)
  return out / NAME


def _check(entry: Entry) -> None:
  for field in ("folder", "thumbnail"):
    path = pathlib.PurePosixPath(getattr(entry, field) or ".")
    if path.is_absolute() or ".." in path.parts:
      raise ValueError(
        f"{field}={str(path)!r}: must be relative to the index and below it"
      )
  for name, value in entry.metrics.items():
    if value is not None and not math.isfinite(value):
      raise ValueError(
        f"metrics: {name} of {entry.title!r} is {value}; give a finite number "
        "or None"
      )
