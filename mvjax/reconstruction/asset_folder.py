"""What a reconstruction leaves in an asset's folder.

    asset.glb, asset.ply, asset_turntable.gif, reconstruction.json

The record is written last: where it is, the others are whole. A finished asset
is kept; one made with other settings or from other views is an error, never a
silent overwrite.
"""

import json
import os
import pathlib
import shutil
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image

GLB, PLY = "asset.glb", "asset.ply"
TURNTABLE, RECORD = "asset_turntable.gif", "reconstruction.json"

_PARTIAL = ".reconstruction.partial"
_TURN_MILLISECONDS = 3000


def is_finished(folder: pathlib.Path, decisive: Mapping[str, Any]) -> bool:
  """Whether the folder holds an asset made of just this.

  Args:
    folder: the asset's folder.
    decisive: all that decides the asset, as JSON values.

  Raises:
    ValueError: it holds an asset made of something else.
  """
  path = folder / RECORD
  if not path.exists():
    return False
  remedy = f"choose another --out, or remove {path.name}"
  try:
    found = json.loads(path.read_text(encoding="utf-8"))["made_of"]
  except (OSError, ValueError, KeyError, TypeError) as error:
    raise ValueError(
      f"{path} was not written by this program; {remedy}"
    ) from error
  wanted = json.loads(json.dumps(decisive))
  for key in sorted(wanted.keys() | found.keys()):
    if wanted.get(key) != found.get(key):
      raise ValueError(
        f"{folder}: its asset was made with {key}={found.get(key)!r}, asked "
        f"for is {wanted.get(key)!r}; {remedy}"
      )
  return True


def write(
  folder: pathlib.Path,
  *,
  writers: Mapping[str, Callable[[pathlib.Path], None]],
  record: Mapping[str, Any],
) -> None:
  """Writes files into a folder that may hold others; the record comes last.

  Args:
    folder: made if it is not there.
    writers: for each file name, what writes the file at a path.
    record: content of reconstruction.json.
  """
  partial = folder / _PARTIAL
  shutil.rmtree(partial, ignore_errors=True)
  partial.mkdir(parents=True)
  for name, writer in writers.items():
    writer(partial / name)
  text = json.dumps(record, indent=2, ensure_ascii=False)
  (partial / RECORD).write_text(text + "\n", encoding="utf-8")
  for name in (*writers, RECORD):
    os.replace(partial / name, folder / name)
  partial.rmdir()


def write_turntable(
  path: pathlib.Path, images: UInt8[np.ndarray, "v h w 3"]
) -> None:
  """One turn as an endless GIF."""
  frames = [Image.fromarray(image) for image in images]
  frames[0].save(
    path,
    save_all=True,
    append_images=frames[1:],
    duration=_TURN_MILLISECONDS // len(frames),
    loop=0,
  )
