"""What a sample cost, as its sample.json tells.

Seconds are those of its batch, shared by the batch, without the making of
programs, which happens once. Peak memory is the most that the sampling process
had held by then, models and compilation included: of the device where it
counts, of the whole process (resident) on a CPU.
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
  records = [asset.record for asset in assets]
  found = {
    "seconds": [
      sum(s for part, s in record["seconds_of_batch"].items() if part != _ONCE)
      / record["batch_size"]
      for record in records
      if "seconds_of_batch" in record
    ],
    "peak memory (MiB)": [
      record["peak_memory_bytes"] / _MIB
      for record in records
      if record.get("peak_memory_bytes")
    ],
  }
  return {
    name: bootstrap.mean(values) for name, values in found.items() if values
  }
