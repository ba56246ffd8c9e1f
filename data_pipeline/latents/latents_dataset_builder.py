"""TFDS builder: renders after an autoencoder, with encoded captions.

Kept is the posterior, not a sample of it, so that every visit to a view draws
its latents anew. Arrays are bytes of little-endian float16, one string a view
or caption, because a reader then touches only those it wants.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, SupportsIndex

import numpy as np
import tensorflow_datasets as tfds

from data_pipeline.renders import renders_dataset_builder

# What these records have instead of the pixels of a record of renders.
POSTERIORS, TEXTS = "posteriors", "texts"
PIXELS = frozenset({"images", "depths"})


class Builder(tfds.core.GeneratorBasedBuilder):
  """One record for every record of renders that was encoded.

  Fields are those of the renders, but for the pixels: `posteriors`, for each
  view [i j 2c], mean and log variance of the unscaled latents, and `texts`,
  for each caption [n d]; their shapes are in `posterior_shape`, `text_shape`.
  """

  VERSION = tfds.core.Version("1.0.0")
  RELEASE_NOTES = {"1.0.0": "First release."}

  def __init__(
    self,
    *,
    records: Mapping[str, Callable[[], Iterator[Mapping[str, Any]]]],
    metadata: Mapping[str, Any],
    **kwargs: Any,
  ):
    """A builder of these records.

    Args:
      records: for each split, what gives its records in order.
      metadata: `index` as the renders have it, `source_digest`, and
        `model_digest`, see `training.precompute`.
      **kwargs: of TFDS.
    """
    self._records, self._metadata = records, metadata
    super().__init__(**kwargs)

  def _info(self) -> tfds.core.DatasetInfo:
    features = tfds.features
    arrays = {
      f"{name}_shape": features.Tensor(shape=(None,), dtype=np.int32)
      for name in ("posterior", "text")
    }
    for name in (POSTERIORS, TEXTS):
      arrays[name] = features.Tensor(shape=(None,), dtype=np.bytes_)
    return tfds.core.DatasetInfo(
      builder=self,
      description="Posteriors of an autoencoder and encoded captions.",
      disable_shuffling=True,
      metadata=tfds.core.MetadataDict(self._metadata),
      features=features.FeaturesDict(
        renders_dataset_builder.record_features() | arrays
      ),
    )

  def _split_generators(self, dl_manager: Any) -> dict[str, Iterator]:
    del dl_manager  # nothing is fetched
    return {
      name: self._generate_examples(start)
      for name, start in self._records.items()
    }

  def _generate_examples(
    self, start: Callable[[], Iterator[Mapping[str, Any]]]
  ) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for number, record in enumerate(start()):
      yield f"{number}", record


def encode_arrays(arrays: np.ndarray, name: str) -> dict[str, Any]:
  """The fields of a record for arrays [k ...]; `name` is one of theirs.

  Raises:
    ValueError: a number is too large for float16.
  """
  half = np.asarray(arrays, "<f2")
  if not np.isfinite(half).all():
    raise ValueError(
      f"{name}: a value of up to {np.abs(arrays).max():.3g} does not fit "
      "float16; is this the right model?"
    )
  singular = name.removesuffix("s")
  return {
    name: [array.tobytes() for array in half],
    f"{singular}_shape": np.asarray(arrays.shape[1:], np.int32),
  }


def decode_array(
  record: Mapping[str, Any], name: str, index: SupportsIndex
) -> np.ndarray:
  """One array of a record, float32."""
  shape = record[f"{name.removesuffix('s')}_shape"]
  flat = np.frombuffer(record[name][index], "<f2")
  return flat.reshape(shape).astype(np.float32)
