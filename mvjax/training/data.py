"""Batches for training: the render loader, or shapes made on the fly.

A stream is an endless iterator of batches in the loader's layout whose
position is one number, the batches taken, so that it can start anywhere.
"""

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any

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
    start: Gives the iterator of batches `position`, `position + 1`, ...
    captions: Every caption the batches may carry.
    fingerprint: JSON values that decide the sequence of batches.
  """

  start: Callable[[int], Iterator[Batch]]
  captions: Callable[[], list[str]]
  fingerprint: Mapping[str, Any]


def open_stream(
  config: ml_collections.ConfigDict, *, batch_size: int, seed: int
) -> Stream:
  """Opens what a config's `data` section describes.

  Raises:
    ValueError: The data set is missing or its settings do not fit, by field.
  """
  make = {"renders": _renders, "synthetic": _synthetic}[config.source]
  return make(config, batch_size=batch_size, seed=seed)


def _renders(
  config: ml_collections.ConfigDict, *, batch_size: int, seed: int
) -> Stream:
  """The TFDS data set at `config.path`."""
  choices = dict(config)
  choices.pop("source")
  settings = loader.LoaderSettings(
    **choices | {"looks": tuple(config.looks)},
    batch_size=batch_size,
    seed=seed,
  )

  def start(position: int) -> Iterator[Batch]:
    return loader.batches(settings, position)

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


def _synthetic(
  config: ml_collections.ConfigDict, *, batch_size: int, seed: int
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

  def start(position: int) -> Iterator[Batch]:
    while True:
      yield _synthetic_batch(np.random.default_rng([seed, position]), settings)
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
