"""What a sample cost, as its sample.json tells.

Seconds and peak memory (`mvjax.memory`) are those of its batch; seconds are
shared by the batch. Intervals are over batches: the assets of one have the same
figures. Making programs happens once: batches that made next to none speak for
all, and where there are no others its seconds are taken off.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from mvjax.evaluation import bootstrap
from mvjax.views import asset_views

_MIB = 2**20
_ONCE = "compile"
# Share of a batch's seconds up to which it made next to no programs.
_LITTLE = 0.01


def figures(
  assets: Sequence[asset_views.Asset],
) -> dict[str, bootstrap.Estimate]:
  """Mean seconds and the mean peak memory in MiB of an asset, if known."""
  records = [
    asset.record for asset in assets if "seconds_of_batch" in asset.record
  ]
  records = [r for r in records if _is_settled(r)] or records
  # Milliseconds of three parts tell batches apart.
  batches = {str(record["seconds_of_batch"]): record for record in records}
  found = {
    "seconds": [
      _running(record) / record["batch_size"] for record in batches.values()
    ],
    "peak memory (MiB)": [
      record["peak_memory_bytes"] / _MIB
      for record in batches.values()
      if "peak_memory_bytes" in record
    ],
  }
  return {
    name: dataclasses.replace(
      bootstrap.mean(values), num_assets=len(records), num_images=len(records)
    )
    for name, values in found.items()
    if values
  }


def _running(record: Mapping[str, Any]) -> float:
  """Seconds of a batch without those of making programs."""
  parts = record["seconds_of_batch"].items()
  return sum(seconds for part, seconds in parts if part != _ONCE)


def _is_settled(record: Mapping[str, Any]) -> bool:
  compiling = record["seconds_of_batch"].get(_ONCE, 0.0)
  return compiling <= _LITTLE * _running(record)
