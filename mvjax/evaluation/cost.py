"""What a sample cost, as its sample.json tells.

Seconds and peak memory (`mvjax.memory`) are those of its batch; seconds are
shared by the batch. Making programs happens once: batches that made none speak
for all, and where there are no others its seconds are taken off.
"""

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
  found = {
    "seconds": [
      sum(s for part, s in record["seconds_of_batch"].items() if part != _ONCE)
      / record["batch_size"]
      for record in records
    ],
    "peak memory (MiB)": [
      record["peak_memory_bytes"] / _MIB
      for record in records
      if "peak_memory_bytes" in record
    ],
  }
  return {
    name: bootstrap.mean(values) for name, values in found.items() if values
  }
