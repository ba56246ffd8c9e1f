"""sample.json, which says what a folder of views shows and what it cost."""

import pathlib
from typing import Any

from data_pipeline import fields

NAME = "sample.json"
# Of what is used of it.
_TYPES = {
  "prompt": str,
  "seed": int,
  "metric_cameras": bool,
  "peak_memory_bytes": float,
}
_SECONDS = "seconds_of_batch"


def read(folder: pathlib.Path) -> dict[str, Any]:
  """The record in a folder; nothing if there is none.

  Raises:
    ValueError: one line: it is no JSON object, or a value that is used is of
      another type.
  """
  if not (folder / NAME).is_file():
    return {}
  record = fields.Fields.read(folder / NAME)
  for name, kind in _TYPES.items():
    if name in record.content:
      record.get(name, kind)
  if _SECONDS in record.content:
    record.number("batch_size", low=1, high=2**31)
    parts = record.object(_SECONDS)
    for name in parts.content:
      parts.number(name, low=0.0, high=1e9)
  return dict(record.content)
