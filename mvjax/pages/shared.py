"""What all pages share: the template engine and the files beside them.

Pages are static and load nothing from a network: a Content-Security-Policy in
each forbids it, and forbids scripts that are not files of ours. Prompts and
folder names are text of strangers: every template escapes them.

A page works by double click as well as from a server. A browser gives a page
opened from a file no modules and no `fetch`, so scripts are classic ones and
the GLB is inside the page, as a data URI (4/3 of its size).
"""

import os
import pathlib
import shutil

import jinja2

from mvjax import atomic, records

# The folder beside index.html; no folder of samples has such a name.
FILES = "page_files"
PAGE = "index.html"

_HERE = pathlib.Path(__file__).parent
_STATIC = _HERE / "static"
_VIEWER = _HERE.parent / "assets" / "model_viewer"

_TEMPLATES = jinja2.Environment(
  loader=jinja2.FileSystemLoader(_HERE / "templates"),
  autoescape=True,
  undefined=jinja2.StrictUndefined,
  trim_blocks=True,
  lstrip_blocks=True,
)


def render(template: str, /, **values: object) -> str:
  """The text of a page; every value is escaped."""
  return _TEMPLATES.get_template(template).render(**values)


def check_place(out: pathlib.Path) -> None:
  """Refuses to replace a page, or files of pages, that others made.

  Raises:
    ValueError: one line, naming the file or folder.
  """
  check_page(out / PAGE)
  files = out / FILES
  if os.path.lexists(files):
    names = {path.name for path in files.glob("*")}
    own = {path.name for path in _STATIC.iterdir()} | {_VIEWER.name}
    if names and not {_VIEWER.name} <= names <= own:
      raise records.foreign(files)


def check_page(path: pathlib.Path) -> None:
  """Likewise, of a page alone."""
  if not os.path.lexists(path):
    return
  # All of ours, of any version, take their style from there.
  mark = f"{FILES}/style.css".encode()
  if not path.is_file() or mark not in path.read_bytes():
    raise records.foreign(path)


def copy_files(out: pathlib.Path) -> None:
  """Puts styles, scripts and model-viewer into `<out>/page_files` (1.1 MB)."""
  with atomic.replaced(out / FILES) as folder:
    shutil.copytree(_STATIC, folder)
    shutil.copytree(_VIEWER, folder / _VIEWER.name)


def format_number(value: float | int | None) -> str:
  """Few digits, as in a table; a dash for None."""
  if value is None:
    return "–"
  if isinstance(value, int):
    return str(value)
  digits = 1 if abs(value) >= 100 else 2 if abs(value) >= 1 else 4
  return f"{value:.{digits}f}"


_TEMPLATES.filters["number"] = format_number
