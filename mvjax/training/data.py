"""Batches for training: the render loader, or shapes made on the fly.

A stream is an endless iterator of batches in the loader's layout whose
position is one number, the batches taken, so that it can start anywhere.
"""

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import ml_collections
import numpy as np

from data_pipeline import loader
from mvjax import geometry

Batch = dict[str, Any]

VIEW_WORDS = ("front", "side", "back")
_COLOURS = {
  "red": (0.8, -0.7, -0.7),
  "green": (-0.7, 0.5, -0.6),
  "blue": (-0.7, -0.5, 0.8),
  "yellow": (0.8, 0.7, -0.7),
}
# Centre and radius of the two balls of each shape, inside the unit ball.
_SHAPES = {
  "ball": (((0.0, 0.0, 0.0), 0.8), ((0.0, 0.0, 0.0), 0.4)),
  "snowman": (((0.0, 0.0, -0.35), 0.6), ((0.0, 0.0, 0.45), 0.4)),
  "bird": (((0.0, 0.0, 0.0), 0.5), ((0.55, 0.0, 0.3), 0.3)),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Stream:
  """A source of batches.

  Attributes:
    start: (position, rows) gives the iterator of batches `position`,
      `position + 1`, ..., or of these rows of each.
    captions: Every caption the batches may carry.
    fingerprint: JSON values that decide the sequence of batches.
  """

  start: Callable[..., Iterator[Batch]]
  captions: Callable[[], list[str]]
  fingerprint: Mapping[str, Any]


def open_stream(
  config: ml_collections.ConfigDict,
  *,
  batch_size: int,
  seed: int,
  validation: bool = False,
) -> Stream:
  """Opens what a config's `data` section describes.

  Args:
    config: The section.
    batch_size: Examples in a batch, over all processes.
    seed: Of the run.
    validation: Whether to take examples that are not trained on.

  Raises:
    ValueError: The data set is missing or its settings do not fit, by field.
  """
  make = {"renders": _renders, "synthetic": _synthetic}[config.source]
  return make(config, batch_size=batch_size, seed=seed, validation=validation)


def _renders(
  config: ml_collections.ConfigDict,
  *,
  batch_size: int,
  seed: int,
  validation: bool,
) -> Stream:
  """The TFDS data set at `config.path`."""
  settings = loader_settings(
    config, batch_size=batch_size, seed=seed, validation=validation
  )

  def start(
    position: int, rows: Sequence[int] | None = None
  ) -> Iterator[Batch]:
    # A part of a batch is what one of several processes would load.
    count, parts = parts_of(
      range(batch_size) if rows is None else rows, batch_size
    )
    parts = [
      loader.batches(
        dataclasses.replace(
          settings, process_index=part, process_count=batch_size // count
        ),
        position,
      )
      for part in parts
    ]
    for batches in zip(*parts, strict=True):
      yield _joined(batches)

  def captions() -> list[str]:
    texts = {
      caption.decode()
      for record in loader.records(settings)
      for caption in record["captions"]
    }
    return _with_view_words(sorted(texts), config.view_words)

  return Stream(
    start=start,
    captions=captions,
    fingerprint=loader.fingerprint(settings),
  )


def loader_settings(
  config: ml_collections.ConfigDict,
  *,
  batch_size: int,
  seed: int,
  validation: bool = False,
) -> loader.LoaderSettings:
  """What the loader is asked for; see `open_stream`.

  Raises:
    ValueError: The section breaks one of the loader's rules.
  """
  choices = dict(config)
  choices.pop("source")
  other_split = choices.pop("validation_split")
  if validation:
    choices["split"] = other_split
    if config.orthogonal:
      # Views around the object, as they are sampled.
      choices |= {"orthogonal": 1.0, "nearby": 0.0}
  return loader.LoaderSettings(
    **choices | {"looks": tuple(config.looks)},
    batch_size=batch_size,
    seed=seed,
  )


def parts_of(rows: Sequence[int], batch_size: int) -> tuple[int, list[int]]:
  """Some rows of a batch as parts of it, when it is cut into equal parts.

  Args:
    rows: In order.
    batch_size: Rows in all.

  Returns:
    The size of a part, as large as possible, and the parts' numbers.
  """
  sizes = [n for n in range(len(rows), 0, -1) if batch_size % n == 0]
  for size in sizes:
    parts = sorted({row // size for row in rows})
    if len(parts) * size == len(rows):
      return size, parts
  raise ValueError(f"rows={list(rows)}: must not be empty")


def _joined(batches: Sequence[Batch]) -> Batch:
  """Batches one after the other, as one."""
  if len(batches) == 1:
    return batches[0]
  return jax.tree.map(lambda *leaves: np.concatenate(leaves), *batches)


def _synthetic(
  config: ml_collections.ConfigDict,
  *,
  batch_size: int,
  seed: int,
  validation: bool,
) -> Stream:
  """Two-ball shapes in four colours, exactly rendered; needs no files."""
  settings = {
    "source": "synthetic",
    "num_views": config.num_views,
    "image_size": config.image_size,
    "crop": config.crop,
    "batch_size": batch_size,
    "seed": seed,
  }

  def start(
    position: int, rows: Sequence[int] | None = None
  ) -> Iterator[Batch]:
    while True:
      key = [seed, position, *[1] * validation]
      batch = _synthetic_batch(np.random.default_rng(key), settings)
      names = [f"{position}-{row}" for row in range(batch_size)]
      batch["uid"] = np.asarray(names)
      yield jax.tree.map(lambda leaf: leaf[rows] if rows else leaf, batch)
      position += 1

  texts = [f"a {colour} {shape}" for colour in _COLOURS for shape in _SHAPES]
  return Stream(
    start=start,
    captions=lambda: _with_view_words(texts, config.view_words),
    fingerprint=settings,
  )


def _with_view_words(texts: list[str], share: float) -> list[str]:
  if not share:
    return texts
  return texts + [f"{t}, {word} view" for t in texts for word in VIEW_WORDS]


def _synthetic_batch(
  rng: np.random.Generator, settings: Mapping[str, Any]
) -> Batch:
  """One batch in the loader's layout, from its own generator."""
  examples = [
    _synthetic_example(rng, settings) for _ in range(settings["batch_size"])
  ]
  stacked = {
    name: np.stack([example[name] for example in examples])
    for name in examples[0]
  }
  camera = {
    name: stacked.pop(name) for name in ("camera_to_world", "intrinsics")
  }
  return stacked | {"camera": camera}


def _synthetic_example(
  rng: np.random.Generator, settings: Mapping[str, Any]
) -> Batch:
  """One shape seen from evenly spaced azimuths."""
  views, size = settings["num_views"], settings["image_size"]
  colour, shape = rng.choice(list(_COLOURS)), rng.choice(list(_SHAPES))
  camera = geometry.orbit(
    azimuth=rng.uniform(0, 2 * np.pi) + 2 * np.pi * np.arange(views) / views,
    elevation=rng.uniform(-0.1, 0.7),
    distance=3.0,
    field_of_view=np.deg2rad(40.0),
    xnp=np,
  )
  origins, directions = geometry.rays(camera, size, size, xnp=np)
  depth = np.full((views, size, size), np.inf, np.float32)
  image = np.ones((views, size, size, 3), np.float32)
  for centre, radius in _SHAPES[shape]:
    offset = origins - np.asarray(centre, np.float32)
    near, far = geometry.ray_sphere(offset, directions, radius, xnp=np)
    seen = (far > near) & (near < depth)
    normal = (offset + near[..., None] * directions) / radius
    shade = 0.7 + 0.3 * normal[..., 2:]
    colours = (np.asarray(_COLOURS[colour]) + 1) * shade - 1
    image = np.where(seen[..., None], colours, image).astype(np.float32)
    depth = np.where(seen, near, depth)
  alpha = np.isfinite(depth)
  forward = camera.camera_to_world[:, None, None, :3, 2]
  depth = np.where(alpha, depth, 0) * np.sum(directions * forward, -1)
  example = {
    "image": image,
    "alpha": alpha.astype(np.float32),
    "depth": depth.astype(np.float32),
  }
  if settings["crop"] is not None:
    side = settings["crop"]
    top, left = rng.integers(size - side + 1, size=2)
    example = {
      name: pixels[:, top : top + side, left : left + side]
      for name, pixels in example.items()
    }
  return example | {
    "camera_to_world": camera.camera_to_world.astype(np.float32),
    "intrinsics": camera.intrinsics.astype(np.float32),
    "caption": f"a {colour} {shape}",
  }
