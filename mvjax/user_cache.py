"""The user's folder for what can be made again."""

import os
import pathlib


def folder() -> pathlib.Path:
  """`mvjax` in XDG_CACHE_HOME, or in ~/.cache."""
  home = os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache"
  return pathlib.Path(home) / "mvjax"
