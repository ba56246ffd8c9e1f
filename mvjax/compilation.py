"""The persistent compilation cache: a program is compiled once per machine."""

import os
import pathlib

import jax


def enable_cache() -> pathlib.Path:
  """Keeps compiled programs on disk for later processes; returns the folder.

  JAX_COMPILATION_CACHE_DIR chooses the folder; otherwise it is `mvjax/jax` in
  the user's cache directory (XDG_CACHE_HOME, or ~/.cache).
  """
  folder = jax.config.values["jax_compilation_cache_dir"]
  if folder is None:
    home = os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache"
    folder = str(pathlib.Path(home) / "mvjax" / "jax")
    jax.config.update("jax_compilation_cache_dir", folder)
  # Smaller programs compile faster than they are read.
  jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.3)
  return pathlib.Path(folder)
