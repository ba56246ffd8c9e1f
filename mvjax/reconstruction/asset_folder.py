"""What a reconstruction leaves in an asset's folder.

    asset.glb, asset.ply, asset_turntable.gif, reconstruction.json

The record is written last: where it is, the others are whole. A finished asset
is kept; one made with other settings or from other views is an error, never a
silent overwrite.
"""

import os
import pathlib
import shutil
from collections.abc import Callable, Mapping
from typing import Any

from mvjax import records

GLB, PLY = "asset.glb", "asset.ply"
TURNTABLE, RECORD = "asset_turntable.gif", "reconstruction.json"

_FILES = (GLB, PLY, TURNTABLE)
_PARTIAL = ".reconstruction.partial"


def is_finished(folder: pathlib.Path, decisive: Mapping[str, Any]) -> bool:
  """Whether the folder holds an asset made of just this.

  Args:
    folder: the asset's folder.
    decisive: all that decides the asset, as JSON values.

  Raises:
    ValueError: it holds an asset made of something else, or files of others
      under the names of ours.
  """
  path = folder / RECORD
  if not path.exists():
    # An interrupted write leaves files of ours, and where they came from.
    for name in () if (folder / _PARTIAL).is_dir() else _FILES:
      if os.path.lexists(folder / name):
        raise records.foreign(folder / name)
    return False
  records.check_same(
    path,
    decisive,
    made_of=lambda record: record["made_of"],
    remedy="choose another --out, or remove it and the files beside it: "
    + ", ".join(_FILES),
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
  records.write(partial / RECORD, record)
  for name in (*writers, RECORD):
    os.replace(partial / name, folder / name)
  partial.rmdir()
