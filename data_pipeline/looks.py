"""The looks of an object: the colour of every hit, and what to call it.

  full         its own textures and colours
  simplified   every part in its mean colour, as plain synthetic data has
  retextured   the parts that one mostly sees in a procedural material, the
               others in their mean colours

Every material comes retextured and simplified, with the same captions.
"""

import dataclasses
import hashlib
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from jaxtyping import Bool, Float32, Int

from data_pipeline import captions, materials, objects, raycast

# A material covers the most visible parts up to this share of all hits.
_DOMINANT_SHARE = 0.7
# How far patterns are shifted from one object to the next.
_SHIFT = 2.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Variant:
  """A material that an object is dressed in.

  Attributes:
    material: Key of `materials.MATERIALS`.
    color: One of the material's colours.
  """

  material: str
  color: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Look:
  """One look.

  Attributes:
    look: 'full', 'simplified' or 'retextured'.
    captions: At least one.
    variant: The material, or None for the object's own.
    colors: sRGB before lighting of the hits of each view, made on demand.
  """

  look: str
  captions: tuple[str, ...]
  variant: Variant | None
  colors: Iterable[Float32[np.ndarray, "n 3"]]


def generator(uid: str, *, seed: int, purpose: str) -> np.random.Generator:
  """Random numbers that depend on the object, the seed and the purpose."""
  digest = hashlib.sha256(f"{seed}/{purpose}/{uid}".encode()).digest()
  return np.random.default_rng(int.from_bytes(digest[:8], "big"))


def choose_variants(uid: str, *, count: int, seed: int) -> tuple[Variant, ...]:
  """Different materials for an object.

  Every material is equally likely, whatever the object is.
  """
  rng = generator(uid, seed=seed, purpose="variants")
  names = [str(n) for n in rng.permutation(list(materials.MATERIALS))[:count]]
  return tuple(
    Variant(
      material=name,
      color=str(rng.choice(materials.MATERIALS[name].colors)),
    )
    for name in names
  )


def looks(
  thing: objects.Object,
  views: Sequence[raycast.Hits],
  *,
  variants: int,
  seed: int,
) -> Iterator[Look]:
  """Full and simplified, then retextured and simplified of each variant.

  Args:
    thing: The object, for its captions and its choice of materials.
    views: What is seen of it; at least one hit in all.
    variants: Number of materials.
    seed: Changes the choice.
  """
  part = np.concatenate([view.part for view in views])
  albedo = np.concatenate([view.albedo for view in views])
  count = np.bincount(part)
  means = np.stack(
    [np.bincount(part, c) / np.maximum(count, 1) for c in albedo.T], -1
  ).astype(np.float32)

  texts = captions.original(thing, _main_color(means, count))
  own = {"captions": texts, "variant": None}
  yield Look(look="full", colors=(v.albedo for v in views), **own)
  yield Look(look="simplified", colors=_flat(means, views), **own)

  dominant = _dominant(count)
  rng = generator(thing.uid, seed=seed, purpose="pattern")
  shift = rng.uniform(-_SHIFT, _SHIFT, 3).astype(np.float32)
  for variant in choose_variants(thing.uid, count=variants, seed=seed):
    words = {"material": variant.material, "color": variant.color}
    texts = captions.in_material(thing, **words)
    dressed = {"captions": texts, "variant": variant}
    flat = means.copy()
    flat[dominant] = materials.mean_color(variant.material, variant.color)
    rich = (
      _retextured(v, means, dominant, variant=variant, shift=shift)
      for v in views
    )
    yield Look(look="retextured", colors=rich, **dressed)
    yield Look(look="simplified", colors=_flat(flat, views), **dressed)


def _flat(colors, views):
  """Colour of the part for every hit, view by view."""
  return (colors[view.part] for view in views)


def _main_color(
  means: Float32[np.ndarray, "p 3"], count: Int[np.ndarray, " p"]
) -> str | None:
  """Colour word of the part that makes up more than half, if there is one."""
  main = int(count.argmax())
  if count[main] <= 0.5 * count.sum():
    return None
  return captions.color_word(means[main])


def _dominant(count: Int[np.ndarray, " p"]) -> Bool[np.ndarray, " p"]:
  """The fewest parts that make up most of what is seen."""
  order = np.argsort(-count, kind="stable")
  before = np.cumsum(count[order]) - count[order]
  dominant = np.zeros(len(count), bool)
  dominant[order[before < _DOMINANT_SHARE * count.sum()]] = True
  return dominant


def _retextured(view, means, dominant, *, variant, shift):
  """Dominant parts in the variant's material, the others in mean colours."""
  rgb = means[view.part]
  here = dominant[view.part]
  rgb[here] = materials.evaluate(
    variant.material,
    variant.color,
    points=view.points[here] + shift,
    normals=view.normals[here],
  )
  return rgb
