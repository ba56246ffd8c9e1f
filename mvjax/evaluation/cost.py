"""What a sample cost, as its sample.json tells.

Seconds are those of its batch, shared by the batch; a batch that includes
compilation is left out, because it says nothing about the next. Peak memory is
the device's, where the sampler recorded `peak_memory_bytes`.
"""

from collections.abc import Sequence

from mvjax import view_sets
from mvjax.evaluation import bootstrap

_MIB = 2**20


def figures(
  assets: Sequence[view_sets.Asset],
) -> dict[str, bootstrap.Estimate]:
  """Mean seconds and the mean peak memory in MiB of an asset, if known."""
  records = [asset.record for asset in assets]
  found = {
    "seconds": [
      sum(record["seconds_of_batch"].values()) / record["batch_size"]
      for record in records
      if "seconds_of_batch" in record
      and not record.get("includes_compilation", False)
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
