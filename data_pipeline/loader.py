"""Records to batches: a Grain graph whose order depends on the seed alone.

shuffle -> repeat -> random choices -> batch(B / P) -> every P-th batch

In this order the global batch of step k is the same for any number of
processes P: process p holds its rows p B/P and up. The position of the
iterator is one number, the batches taken, so resuming is exact. Only the
views that an example uses are decoded.
"""

import dataclasses
import functools
import multiprocessing
import os
import signal
import threading
from collections.abc import Mapping, Sequence
from typing import Any

import grain
import numpy as np
from absl import flags

from data_pipeline import decoding, image_ops, shards, views
from data_pipeline.latents import latents_dataset_builder as latents

Record = Mapping[str, Any]
Batch = dict[str, Any]

HELD_OUT_PAIRS = {
  "exclude": lambda held_out, seen: not held_out,
  "only": lambda held_out, seen: held_out,
  "seen_by_image_model": lambda held_out, seen: seen,
}
"""Which records a policy keeps, from (held_out_pair, seen_by_image_model)."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class LoaderSettings:
  """What an example is and how examples are drawn.

  Attributes:
    path: folder of the data set (`build.build` returns it).
    split: 'train' or 'held_out_objects'.
    looks: records with one of these looks are used.
    held_out_pairs: 'exclude' (multi-view models), 'only' (text tests) or
      'seen_by_image_model' (the 2D model: all but the unseen pairs).
    num_views: views of one example.
    orthogonal: probability that they are one orbit. Ignored for one view.
    nearby: probability that they are one cluster. What is left to 1 is the
      probability of any views of the object.
    view_words: share of captions that end in the view's name; one view only.
    image_size: pixels, a divisor of the stored size; None: as stored.
    crop: side in pixels of random crops that contain some of the object.
    batch_size: examples in a batch, over all processes.
    seed: decides order and all random choices.
    process_index: which of the processes this is.
    process_count: how many processes share a batch.
    threads: threads that prepare batches (of every worker).
    prefetch: batches prepared ahead (by every worker).
    workers: worker processes that prepare batches in turn; 0: threads of this
      process alone, enough until decoding is slower than the device.
  """

  path: str
  split: str = "train"
  looks: tuple[str, ...]
  held_out_pairs: str = "exclude"
  num_views: int = 4
  orthogonal: float = 0.5
  nearby: float = 0.5
  view_words: float = 0.0
  image_size: int | None = None
  crop: int | None = None
  batch_size: int
  seed: int = 0
  process_index: int = 0
  process_count: int = 1
  threads: int = 2
  prefetch: int = 4
  workers: int = 0

  def __post_init__(self):
    shares = (self.orthogonal, self.nearby, self.view_words)
    rules = {
      "looks must not be empty": bool(self.looks),
      f"held_out_pairs must be one of {', '.join(HELD_OUT_PAIRS)}": (
        self.held_out_pairs in HELD_OUT_PAIRS
      ),
      "num_views and batch_size must be positive": (
        min(self.num_views, self.batch_size) > 0
      ),
      "orthogonal, nearby and view_words must be in [0, 1]": (
        all(0 <= share <= 1 for share in shares)
      ),
      "orthogonal + nearby must not exceed 1": (
        self.orthogonal + self.nearby <= 1 + 1e-6
      ),
      "view_words needs num_views=1": (
        self.view_words == 0 or self.num_views == 1
      ),
      "process_index must be below process_count": (
        0 <= self.process_index < self.process_count
      ),
      "process_count must divide batch_size": (
        self.process_count > 0 and self.batch_size % self.process_count == 0
      ),
      "threads must be positive, prefetch at least as large": (
        0 < self.threads <= self.prefetch
      ),
      "workers must not be negative": self.workers >= 0,
    }
    broken = [rule for rule, holds in rules.items() if not holds]
    if broken:
      raise ValueError(f"{'; '.join(broken)}; got {self}")


def fingerprint(settings: LoaderSettings) -> dict[str, Any]:
  """All that decides the sequence of batches, as plain JSON values.

  Store it beside the iterator's state and compare with
  `check_fingerprint` before resuming. Where the data set lies and how many
  processes and threads read it are left out: they change nothing.
  """
  data_set = _open(settings)
  builder = data_set.builder
  ignored = ["path", "process_index", "process_count"]
  ignored += ["threads", "prefetch", "workers"]
  choices = {
    field.name: getattr(settings, field.name)
    for field in dataclasses.fields(settings)
    if field.name not in ignored
  }
  return choices | {
    "looks": list(settings.looks),
    "dataset": builder.name,
    "version": str(builder.version),
    "source_digest": data_set.digest,
    **{
      name: data_set.metadata[name]
      for name in ("model_digest",)
      if name in data_set.metadata
    },
    "records": builder.info.splits[settings.split].num_examples,
    "eligible_records": len(eligible(settings)),
  }


def check_fingerprint(
  stored: Mapping[str, Any], current: Mapping[str, Any]
) -> None:
  """Refuses to go on with other data than a run began with.

  Raises:
    ValueError: names every field that differs.
  """
  differences = [
    f"{key}: was {stored.get(key)!r}, is {current.get(key)!r}"
    for key in sorted(stored.keys() | current.keys())
    if stored.get(key) != current.get(key)
  ]
  if differences:
    raise ValueError(
      f"cannot resume with different data ({'; '.join(differences)}); "
      "restore the data and settings of the run, or start a new one"
    )


def eligible(settings: LoaderSettings) -> list[int]:
  """Numbers of the records that the settings select.

  Raises:
    ValueError: if there is none, or if one has too few views.
  """
  index = _open(settings).index[settings.split]
  keep = HELD_OUT_PAIRS[settings.held_out_pairs]
  chosen = [
    number
    for number, look in enumerate(index["look"])
    if look in settings.looks
    and keep(
      index["held_out_pair"][number], index["seen_by_image_model"][number]
    )
  ]
  if not chosen:
    raise ValueError(
      f"looks={settings.looks}, held_out_pairs={settings.held_out_pairs}: no "
      f"record of split {settings.split} is left; it has the looks "
      f"{sorted(set(index['look']))}"
    )
  needs = {"views": True}
  if settings.num_views > 1:
    needs |= {"orbit": settings.orthogonal > 0}
    needs |= {"cluster": settings.nearby > 0}
  for kind, needed in needs.items():
    most = min(index[kind][number] for number in chosen)
    if needed and most < settings.num_views:
      raise ValueError(
        f"num_views={settings.num_views}: some object has no more than {most} "
        f"({kind}); ask for fewer, or set the probability `orthogonal` (of "
        "an orbit) or `nearby` (of a cluster) to 0"
      )
  return chosen


def records(settings: LoaderSettings) -> grain.MapDataset:
  """The selected records in the order of the data set, images undecoded."""
  numbers = eligible(settings)
  with shards.reading(f"path={settings.path}"):
    source = _open(settings).builder.as_data_source(settings.split)
  return grain.MapDataset.source(
    _Records(source, numbers, f"path={settings.path}, {settings.split}")
  )


def dataset(settings: LoaderSettings) -> grain.MapDataset:
  """An endless sequence: element k is this process's part of batch k."""
  part = settings.batch_size // settings.process_count
  return (
    records(settings)
    .seed(settings.seed)
    .shuffle()
    .repeat()
    .random_map(functools.partial(make_example, settings=settings))
    .batch(part, drop_remainder=True, batch_fn=_stack)
    .slice(slice(settings.process_index, None, settings.process_count))
  )


def batches(
  settings: LoaderSettings, position: int = 0
) -> grain.DatasetIterator:
  """Iterator over `dataset` from batch `position` on, prepared ahead.

  To resume, count the batches taken. A batch holds

    image [b v h w 3] float32 in [-1, 1] on white, alpha [b v h w] in [0, 1],
    depth [b v h w] z-depth, 0 where there is no surface or no depth,
    camera {camera_to_world [b v 4 4], intrinsics [b v 3 3]},
    caption [b] and uid [b] strings;

  of a data set of latents (`latents_dataset_builder`) instead of the pixels

    posterior [b v i j 2c] float32, mean and log variance,
    text [b n d] float32, the encoded caption (without any view word).
  """
  # A view of the endless sequence: nothing is read to get there.
  steps = dataset(settings).slice(slice(position, None))
  options = grain.ReadOptions(
    num_threads=settings.threads, prefetch_buffer_size=settings.prefetch
  )
  ahead = steps.to_iter_dataset(read_options=options)
  if settings.workers:
    # Grain 0.2.18 reads its own absl flags; launch.py parses none globally.
    flags.FLAGS.mark_as_parsed()
    ahead = ahead.mp_prefetch(
      grain.MultiprocessingOptions(
        num_workers=settings.workers, per_worker_buffer_size=1
      ),
      worker_init_fn=_end_with_parent,
    )
  return iter(ahead)


def _end_with_parent(index: int, count: int) -> None:
  """Lets a worker live as long as its parent, whatever signals both get.

  SIGTERM, which goes to all processes of a job, lets a training save and end;
  its workers must not be gone before. They end when the iterator is closed, or
  with a parent that was killed.
  """
  del index, count
  signal.signal(signal.SIGTERM, signal.SIG_IGN)
  threading.Thread(target=_watch_parent, daemon=True).start()


def _watch_parent() -> None:
  parent = multiprocessing.parent_process()
  if parent is not None:
    parent.join()
    os._exit(1)


def make_example(
  record: Record, rng: np.random.Generator, *, settings: LoaderSettings
) -> Batch:
  """Draws views, crops and a caption; see `batches` for the fields."""
  chosen = views.choose_views(
    rng,
    settings.num_views,
    camera_to_world=record["camera_to_world"],
    group=record["group"],
    orthogonal=settings.orthogonal,
    nearby=settings.nearby,
  )
  number = int(rng.integers(len(record["captions"])))
  caption = record["captions"][number].decode()
  if rng.random() < settings.view_words:
    word = views.view_word(record["camera_to_world"][chosen[0]])
    caption = f"{caption}, {word} view"
  about = {
    "camera": {"camera_to_world": record["camera_to_world"][chosen]},
    "caption": caption,
    "uid": record["uid"].decode(),
  }
  if latents.POSTERIORS in record:
    about["camera"]["intrinsics"] = record["intrinsics"][chosen]
    return about | decoding.latents(record, chosen, caption=number)
  pixels = decoding.pixels(record, chosen)
  if settings.image_size is not None:
    pixels = image_ops.shrink(pixels, settings.image_size)
  if settings.crop is not None:
    pixels = image_ops.crop(pixels, settings.crop, rng=rng)
  about["camera"]["intrinsics"] = pixels.intrinsics
  return about | {
    "image": pixels.image,
    "alpha": pixels.alpha,
    "depth": pixels.depth,
  }


class _Records:
  """A part of a data source, as a source."""

  def __init__(self, source: Any, numbers: list[int], where: str):
    self._source = source
    self._numbers = numbers
    self._where = where

  def __len__(self) -> int:
    return len(self._numbers)

  def __getitem__(self, index: int) -> Record:
    number = self._numbers[index]
    with shards.reading(f"{self._where}, record {number}"):
      record = self._source[number]
      for name in ("camera_to_world", "intrinsics"):
        if not np.isfinite(record[name]).all():
          raise ValueError(f"{name} has a value that is not finite")
    return record


def _stack(examples: Sequence[Batch]) -> Batch:
  """Stacks every leaf; strings become an array of strings."""
  first = examples[0]
  return {
    key: _stack([example[key] for example in examples])
    if isinstance(first[key], dict)
    else np.stack([example[key] for example in examples])
    for key in first
  }


def _open(settings: LoaderSettings) -> shards.DataSet:
  """The data set at the path.

  Raises:
    ValueError: if there is no data set, or not this split.
  """
  data_set = shards.open_data_set(settings.path)
  if settings.split not in data_set.index:
    raise ValueError(
      f"split={settings.split}: {settings.path} has {', '.join(data_set.index)}"
    )
  encoded = data_set.metadata.get("image_size")
  if encoded is not None and (
    settings.crop is not None or settings.image_size not in (None, encoded)
  ):
    raise ValueError(
      f"image_size={settings.image_size}, crop={settings.crop}: "
      f"{settings.path} holds latents of whole views of {encoded} px; read "
      "the renders, or encode them at another size"
    )
  return data_set
