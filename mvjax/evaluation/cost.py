"""What a sample cost, as its sample.json tells.

Seconds and peak memory (`mvjax.memory`) are those of its batch; seconds are
shared by the batch. Intervals are over batches: the assets of one have the same
figures. Making programs happens once: batches that made none speak for all, and
where there are no others its seconds are taken off.
"""

import dataclasses
from collections.abc import Sequence

from mvjax import view_sets
from mvjax.evaluation import bootstrap

_MIB = 2**20
_ONCE = "compile"


def figures(
  assets: Sequence[view_sets.Asset],
) -> dict[str, bootstrap.Estimate]:
  """Mean seconds and the mean peak memory in MiB of an asset, if known."""
  records = [
    asset.record for asset in assets if "seconds_of_batch" in asset.record
  ]
  settled = [r for r in records if not r["seconds_of_batch"].get(_ONCE, 0)]
  records = settled or records
  # Milliseconds of three parts tell batches apart.
  batches = {str(record["seconds_of_batch"]): record for record in records}
  found = {
    "seconds": [
      sum(s for part, s in record["seconds_of_batch"].items() if part != _ONCE)
      / record["batch_size"]
      for record in batches.values()
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
