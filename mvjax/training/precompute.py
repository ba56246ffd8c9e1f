"""Encodes a data set of renders once, for trainings that freeze the encoders.

Latents and texts that do not change from step to step need not be computed
in every step. The posterior is kept, so a view's latents still differ from
visit to visit.
"""

import functools
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import tensorflow_datasets as tfds
import tqdm
from etils import epath
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from data_pipeline import build, decoding, shards
from data_pipeline.latents import latents_dataset_builder as latents
from mvjax.models import loading, stable_diffusion

# What decides the arrays: of a model's folder.
ENCODERS = ("vae", "text_encoder", "tokenizer")
_TEXTS_AT_A_TIME = 16

Encode = Callable[[Sequence[Any]], np.ndarray]


def encode_data_set(
  source: epath.PathLike,
  model: str | os.PathLike[str],
  *,
  out: epath.PathLike,
  looks: Sequence[str],
  batch_size: int,
  shard: shards.Shard | None = None,
) -> list[epath.Path]:
  """Writes a data set of latents, part by part; finished parts are kept.

  Args:
    source: a data set of renders, see `shards.folders`.
    model: whose autoencoder, text encoder and tokenizer are used.
    out: the TFDS data directory; it gets the parts of `source`.
    looks: records with one of these looks are encoded.
    batch_size: views at a time; a multiple of the devices.
    shard: of the source's parts, those of this worker; None: all.

  Returns:
    The folders that were written.

  Raises:
    ValueError: there is no such data set, look or part, or the model does not
      fit.
    FileNotFoundError: the model lacks a component.
  """
  homes = shards.folders(source)
  chosen = homes if shard is None else shard.part(homes)
  if not chosen:
    raise ValueError(f"shard: {source} has only {len(homes)} parts")
  digest = model_digest(model)
  opened = loading.load(model)
  encode = _compiled(opened, batch_size)
  written = []
  for home in chosen:
    with shards.reading(f"source={home}"):
      renders = tfds.builder_from_directory(home)
    if renders.name != "renders":
      raise ValueError(f"source={home}: is a data set of {renders.name}")
    kept = _select(renders.info.metadata["index"], looks)
    if not kept:
      raise ValueError(f"looks={tuple(looks)}: {home} has no such record")
    with shards.reading(f"source={home}"):
      first = renders.as_data_source(next(iter(kept)))[0]
    metadata = {
      "image_size": int(decoding.pixels(first, [0]).image.shape[1]),
      "source_digest": renders.info.metadata["source_digest"],
      "model_digest": digest,
      "looks": list(looks),
    }
    make = functools.partial(
      latents.Builder,
      records={
        split: _reader(renders, split, numbers, encode)
        for split, numbers in kept.items()
      },
      metadata=metadata
      | {"index": _index(renders.info.metadata["index"], kept)},
    )
    target = _destination(epath.Path(out), home, homes)
    written.append(build.write(make, target, metadata))
  return written


def model_digest(model: str | os.PathLike[str]) -> str:
  """Hashes of what decides latents and texts, one for each of `ENCODERS`.

  Raises:
    FileNotFoundError: The model is no folder of these components.
  """
  for part in ENCODERS:
    if not (epath.Path(model) / part).is_dir():
      raise FileNotFoundError(
        f"model={model}: has no folder {part}/; `launch.py convert` makes a "
        "folder of any model"
      )
  return ",".join(loading.fingerprint(model, part) for part in ENCODERS)


def check_latents(
  config: ml_collections.ConfigDict, fingerprint: Mapping[str, Any]
) -> None:
  """Checks that a task may train on a data set that was encoded.

  Args:
    config: of the run.
    fingerprint: of its data; renders pass.

  Raises:
    ValueError: The task needs pixels, or its frozen encoders are others.
  """
  digest = fingerprint.get("model_digest")
  if digest is None:
    return
  if config.task == "vae":
    raise ValueError(
      f"data.path={config.data.path}: holds latents; the vae task needs renders"
    )
  frozen = ENCODERS if config.task == "multiview" else ENCODERS[:1]
  own = model_digest(config.train.init_from)
  for name, one, other in zip(
    ENCODERS, digest.split(","), own.split(","), strict=True
  ):
    if name in frozen and one != other:
      raise ValueError(
        f"data.path={config.data.path}: was encoded with another {name} than "
        f"that of train.init_from={config.train.init_from}; encode the "
        "renders again with `launch.py data encode`"
      )


def _destination(
  out: epath.Path, home: epath.Path, homes: Sequence[epath.Path]
) -> epath.Path:
  """A part keeps its name: 00003-of-00064/renders/1.0.0."""
  return out if len(homes) == 1 else out / home.parent.parent.name


def _select(
  index: Mapping[str, Mapping[str, list]], looks: Sequence[str]
) -> dict[str, list[int]]:
  """The numbers of the records with these looks, by split."""
  found = {
    split: [i for i, look in enumerate(columns["look"]) if look in looks]
    for split, columns in index.items()
  }
  return {split: numbers for split, numbers in found.items() if numbers}


def _index(
  index: Mapping[str, Mapping[str, list]], kept: Mapping[str, Sequence[int]]
) -> dict[str, dict[str, list]]:
  return {
    split: {
      name: [column[i] for i in numbers]
      for name, column in index[split].items()
    }
    for split, numbers in kept.items()
  }


def _reader(
  renders: Any,
  split: str,
  numbers: Sequence[int],
  encode: Mapping[str, Encode],
) -> Callable[[], Iterator[dict[str, Any]]]:
  """What gives the encoded records of a split."""

  def read() -> Iterator[dict[str, Any]]:
    source = renders.as_data_source(split)
    for number in tqdm.tqdm(numbers, desc=split, unit="record", disable=None):
      with shards.reading(f"source={renders.data_dir}, {split} {number}"):
        record = source[number]
      views = range(len(record["images"]))
      captions = [caption.decode() for caption in record["captions"]]
      posteriors = encode["images"](list(decoding.pixels(record, views).image))
      texts = encode["captions"](captions)
      yield {
        **{k: v for k, v in record.items() if k not in latents.PIXELS},
        **latents.encode_arrays(posteriors, latents.POSTERIORS),
        **latents.encode_arrays(texts, latents.TEXTS),
      }

  return read


def _compiled(
  model: stable_diffusion.FlaxStableDiffusion, batch_size: int
) -> dict[str, Encode]:
  """Encoders of any number of views or captions; each compiles once."""
  devices = jax.local_device_count()
  mesh = jax.make_mesh((devices,), ("data",), axis_types=(AxisType.Auto,))
  rows = NamedSharding(mesh, PartitionSpec("data"))

  @jax.jit
  def posterior(params, images):
    mean, log_variance = model.vae.apply(
      {"params": params}, images, method="encode"
    )
    return jnp.concatenate([mean, log_variance], -1)

  def encode_images(images: Sequence[Any]) -> np.ndarray:
    return _in_batches(
      lambda part: posterior(
        model.params["vae"], jax.device_put(np.stack(part), rows)
      ),
      images,
      batch_size,
    )

  text = jax.jit(model.encode_text)

  def encode_captions(captions: Sequence[str]) -> np.ndarray:
    return _in_batches(
      lambda part: text(model.params, model.tokenizer(part)),
      captions,
      _TEXTS_AT_A_TIME,
    )

  return {"images": encode_images, "captions": encode_captions}


def _in_batches(
  function: Callable[[list[Any]], Any], items: Sequence[Any], size: int
) -> np.ndarray:
  """Applies a function of `size` items to any number of them."""
  padded = [*items, *[items[-1]] * (-len(items) % size)]
  parts = [
    np.asarray(function(padded[i : i + size]))
    for i in range(0, len(padded), size)
  ]
  return np.concatenate(parts)[: len(items)]
