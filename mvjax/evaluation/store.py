"""Results by asset, kept on disk, so that a measurement can be interrupted.

A result is one file, written under another name and renamed. It carries a key
(of what was measured and how); a file with another key counts as absent.
"""

import hashlib
import json
import os
import pathlib
import re
import zipfile
from collections.abc import Mapping
from typing import Any

import numpy as np

from mvjax import atomic, records

_KEY = "key"
_LONGEST_NAME = 80


class Store:
  """Results of the assets of one set, for one kind of measurement."""

  def __init__(self, folder: str | os.PathLike):
    self._folder = pathlib.Path(folder)

  def read_json(self, name: str, *, key: str) -> dict[str, Any] | None:
    """The figures of an asset, or None if they are not there for this key."""
    try:
      content = json.loads(self._path(name, ".json").read_text("utf-8"))
    except (OSError, ValueError):
      return None
    if not isinstance(content, dict) or content.pop(_KEY, None) != key:
      return None
    return content

  def write_json(self, name: str, content: Mapping[str, Any], *, key: str):
    """Keeps the figures of an asset."""
    write_json(self._path(name, ".json"), {_KEY: key, **content})

  def read_array(self, name: str, *, key: str) -> np.ndarray | None:
    """The features of an asset, or None if they are not there for this key."""
    try:
      with self._path(name, ".npz").open("rb") as opened:
        file = np.load(opened, allow_pickle=False)
        return file["values"] if str(file[_KEY]) == key else None
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
      return None

  def write_array(self, name: str, values: np.ndarray, *, key: str):
    """Keeps the features of an asset."""
    with (
      atomic.replaced(self._path(name, ".npz")) as new,
      new.open("wb") as file,
    ):
      np.savez(file, values=values, **{_KEY: np.array(key)})

  def _path(self, name: str, suffix: str) -> pathlib.Path:
    """A file name that differs for different assets on any file system."""
    slug = re.sub("[^A-Za-z0-9]+", "-", name).strip("-")[:_LONGEST_NAME]
    digest = hashlib.sha256(name.encode()).hexdigest()[:8]
    return self._folder / f"{slug}-{digest}{suffix}"


def make_key(*parts: Any) -> str:
  """A short key of JSON values."""
  text = json.dumps(parts, sort_keys=True)
  return hashlib.sha256(text.encode()).hexdigest()[:16]


def write_json(path: str | os.PathLike, content: Mapping[str, Any]) -> None:
  """Writes a JSON file whole or not at all."""
  with atomic.replaced(pathlib.Path(path)) as new:
    records.write(new, content)
