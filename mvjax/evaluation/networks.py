"""The networks whose features are compared, and their features by asset.

A distance is named after its network. Only Inception features of the FID's
weights make an FID and a KID; other networks give FD-<network> and
KD-<network>, which are for comparing methods with each other and not with
published figures.
"""

import dataclasses
import os
import pathlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import tqdm
from jaxtyping import Float, Int

from mvjax.evaluation import (
  batches,
  clip,
  efficientnet,
  features,
  inception,
  lpips,
  resize,
  store,
)
from mvjax.views import asset_views

# Lite0 was trained at this size. VGG16's features are local, and a fourth of
# the pixels is a fourth of the work.
LITE0_SIZE = 224
VGG16_SIZE = 128
BATCH_SIZE = 16


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Network:
  """From pictures to features.

  Attributes:
    name: in reports.
    frechet, kernel: what its two distances are called; empty if it has none.
    settings: all that decides the features, as JSON values.
    prepare: from a picture in [-1, 1] to the network's input.
    apply: from a batch of inputs to features.
  """

  name: str
  frechet: str
  kernel: str
  settings: Any
  prepare: Callable[[np.ndarray], np.ndarray]
  apply: Callable[[np.ndarray], Any]


@dataclasses.dataclass(frozen=True, kw_only=True)
class FeatureSet:
  """Features of all pictures of a set.

  Attributes:
    values: [n d].
    groups: [n], number of each picture's asset in the set, 0 and up.
  """

  values: Float[np.ndarray, "n d"]
  groups: Int[np.ndarray, " n"]


def lite0(
  cache: str | os.PathLike | None = None, *, size: int = LITE0_SIZE
) -> Network:
  """EfficientNet-Lite0 on pictures of `size` pixels; fetches the weights."""
  params = features.load_weights(cache)

  def prepare(image: np.ndarray) -> np.ndarray:
    levels = resize.clean((image + 1) * 127.5, size)
    return (np.clip(levels, 0, 255) - 127) / 128

  return Network(
    name="EfficientNet-Lite0",
    frechet="FD-EfficientNet-Lite0",
    kernel="KD-EfficientNet-Lite0",
    settings=[features.SOURCE.sha256, size, "clean"],
    prepare=prepare,
    apply=lambda batch: efficientnet.pooled_features(params, batch),
  )


def vgg16(cache: str | os.PathLike | None = None) -> Network:
  """VGG16 at 128 pixels; fetches the weights."""
  params = lpips.load_weights(cache)
  return Network(
    name="VGG16",
    frechet="FD-VGG16",
    kernel="KD-VGG16",
    settings=[lpips.SOURCE.sha256, VGG16_SIZE, "clean"],
    prepare=lambda image: np.clip(resize.clean(image, VGG16_SIZE), -1, 1),
    apply=lambda batch: lpips.pooled_features(params, batch),
  )


def fid_inception(
  params: inception.Parameters, *, convention: str, weights: str
) -> Network:
  """The FID's Inception network, with one of its resize conventions.

  Args:
    params: from `inception.load_weights`.
    convention: key of `resize.INCEPTION_INPUT`.
    weights: what identifies the weights.

  Raises:
    ValueError: no such convention.
  """
  if convention not in resize.INCEPTION_INPUT:
    raise ValueError(
      f"resize={convention!r} must be one of "
      f"{', '.join(resize.INCEPTION_INPUT)}"
    )
  prepare = resize.INCEPTION_INPUT[convention]
  return Network(
    name=f"Inception ({convention})",
    frechet=f"FID ({convention})",
    kernel=f"KID ({convention})",
    settings=[weights, convention],
    prepare=lambda image: prepare(image, inception.IMAGE_SIZE),
    apply=lambda batch: inception.pooled_features(params, batch),
  )


def clip_vision(model: clip.Clip, *, weights: str) -> Network:
  """CLIP's image vectors, which are compared with texts only."""
  return Network(
    name="CLIP",
    frechet="",
    kernel="",
    settings=[weights],
    prepare=lambda image: clip.prepare(image, model.image_size),
    apply=model.embed_images,
  )


def measurable(
  assets: Sequence[asset_views.Asset],
) -> tuple[list[asset_views.Asset], dict[str, str]]:
  """Reads every asset: those that networks can see, and why not the others."""
  found, reasons = [], {}
  for asset in assets:
    try:
      _read(asset)
    except ValueError as error:
      reasons[asset.name] = str(error)
    else:
      found.append(asset)
  return found, reasons


class Kept:
  """Features in a folder, made once for each set and network."""

  def __init__(self, folder: str | os.PathLike):
    self._folder = pathlib.Path(folder)

  def features(
    self, assets: Sequence[asset_views.Asset], network: Network, label: str
  ) -> FeatureSet:
    """Those of all views of all assets, see `extract`."""
    name = store.make_key(network.name, network.settings)
    return extract(
      assets, network, kept=store.Store(self._folder / name), label=label
    )


def extract(
  assets: Sequence[asset_views.Asset],
  network: Network,
  *,
  kept: store.Store,
  label: str,
  batch_size: int = BATCH_SIZE,
) -> FeatureSet:
  """Features of all views of all assets; those that are kept are not redone.

  Args:
    assets: read one after the other; only a batch is in memory.
    network: what to run. One program is compiled: batches have one size.
    kept: where features of each asset are kept.
    label: of the progress bar.
    batch_size: pictures at a time.

  Raises:
    ValueError: an asset is not `measurable`: its pictures are damaged, or not
      square, and networks would see them squashed.
  """
  keys = [
    store.make_key(asset.digest, network.name, network.settings)
    for asset in assets
  ]
  found = [
    kept.read_array(_name(asset), key=key)
    for asset, key in zip(assets, keys, strict=True)
  ]
  missing = [i for i, values in enumerate(found) if values is None]
  with tqdm.tqdm(
    total=len(assets),
    initial=len(assets) - len(missing),
    desc=f"{network.name}: {label}",
    unit="asset",
    disable=None if missing else True,
  ) as progress:
    for part in _groups_of(missing, assets, batch_size):
      inputs = [np.stack([network.prepare(x) for x in im]) for _, im in part]
      outputs = batches.run(
        network.apply, np.concatenate(inputs), batch_size=batch_size
      )
      ends = np.cumsum([len(x) for x in inputs])[:-1]
      for (i, _), values in zip(part, np.split(outputs, ends), strict=True):
        kept.write_array(_name(assets[i]), values, key=keys[i])
        found[i] = values
        progress.update()
  return FeatureSet(
    values=np.concatenate(found),
    groups=np.repeat(np.arange(len(found)), [len(x) for x in found]),
  )


def _name(asset: asset_views.Asset) -> str:
  """Methods share prompts and so names; what they drew tells them apart."""
  return f"{asset.name} {asset.digest}"


def _read(asset: asset_views.Asset) -> Float[np.ndarray, "v h w 3"]:
  image = asset.read().image
  height, width = image.shape[1:3]
  if height != width:
    raise ValueError(
      f"{asset.name}: pictures of {width}x{height} pixels must be square; crop "
      "or pad them, or, if they are strips of views, name the strip in every "
      "frame of a transforms.json (see docs/evaluation.md)"
    )
  return image


def _groups_of(
  missing: Sequence[int], assets: Sequence[asset_views.Asset], batch_size: int
) -> Iterator[list[tuple[int, np.ndarray]]]:
  """Assets with their pictures, as many as fill a batch."""
  part, count = [], 0
  for i in missing:
    part.append((i, _read(assets[i])))
    count += len(part[-1][1])
    if count >= batch_size:
      yield part
      part, count = [], 0
  if part:
    yield part
