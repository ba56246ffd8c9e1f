"""Procedural solid materials: colour as a function of the place on an object.

A material is evaluated at 3D object points, so it needs no texture
coordinates and looks the same from every view. Patterns that live on a plane
(bricks, stripes) use the coordinate plane that the surface faces most. Lengths
are in units of the ball that holds the object: at 128 px a pixel is 0.017.
"""

import dataclasses
import functools
from collections.abc import Callable

import numpy as np
from jaxtyping import Float
from scipy import ndimage

COLORS = {
  "red": (0.75, 0.10, 0.10),
  "orange": (0.93, 0.48, 0.10),
  "yellow": (0.93, 0.80, 0.18),
  "green": (0.16, 0.52, 0.20),
  "blue": (0.14, 0.30, 0.75),
  "purple": (0.46, 0.18, 0.62),
  "pink": (0.94, 0.52, 0.66),
  "brown": (0.45, 0.27, 0.13),
  "black": (0.13, 0.13, 0.14),
  "white": (0.93, 0.92, 0.90),
  "gray": (0.52, 0.53, 0.55),
  "gold": (0.90, 0.68, 0.20),
  "silver": (0.76, 0.78, 0.81),
  "copper": (0.78, 0.42, 0.25),
}
_VIVID = ("red", "orange", "yellow", "green", "blue", "purple", "pink")
_PERIOD = 32

Points = Float[np.ndarray, "n 3"]
Pattern = Callable[[Points, Points, Float[np.ndarray, "3"]], Points]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Material:
  """One material in several colours.

  Attributes:
    name: Words of the caption after the colour: "a red leather sofa".
    colors: Words of the caption, keys of `COLORS`.
    pattern: Function of points [n, 3], unit normals [n, 3] (of either sign)
      and the base colour [3] to sRGB [n, 3], not yet clipped to [0, 1].
  """

  name: str
  colors: tuple[str, ...]
  pattern: Pattern


def evaluate(
  name: str, color: str, *, points: Points, normals: Points
) -> Points:
  """Colours in [0, 1] of a material of `MATERIALS` on a surface."""
  pattern = MATERIALS[name].pattern
  base = np.asarray(COLORS[color], np.float32)
  return np.clip(pattern(points, normals, base), 0, 1).astype(np.float32)


@functools.cache
def mean_color(name: str, color: str) -> tuple[float, float, float]:
  """Mean sRGB of a material over a sphere of radius 0.6."""
  normals = np.random.default_rng(0).normal(size=(8192, 3)).astype(np.float32)
  normals /= np.linalg.norm(normals, axis=-1, keepdims=True)
  rgb = evaluate(name, color, points=0.6 * normals, normals=normals)
  red, green, blue = (float(c) for c in rgb.mean(0))
  return red, green, blue


# Building blocks.


@functools.cache
def _table(seed, channels):
  """Uniform numbers in [0, 1) on a periodic lattice."""
  shape = (_PERIOD,) * 3 + (channels,)
  return np.random.default_rng(seed).random(shape, np.float32)


def _noise(points, frequency, *, octaves=1, seed=0):
  """Value noise in about [-1, 1]; `frequency` (per axis) in cells per unit."""
  total, amplitude, size = np.zeros(len(points), np.float32), 1.0, 0.0
  table = _table(seed, 1)[..., 0]
  for octave in range(octaves):
    place = points * np.asarray(frequency, np.float32) * 2**octave
    place = place + 7.3 * octave
    whole = np.floor(place)
    part = place - whole
    # Linear interpolation of smoothed fractions hides the lattice.
    place = whole + part * part * (3 - 2 * part)
    value = ndimage.map_coordinates(
      table, (place % _PERIOD).T, order=1, mode="grid-wrap"
    )
    total += amplitude * (2 * value - 1)
    size += amplitude
    amplitude *= 0.5
  return 1.6 * total / size


def _cells(points, frequency, *, seed=1):
  """Distances to the two nearest scattered points, and the nearest's number.

  In units of the mean spacing. Only the eight nearest lattice cells are
  searched, and jitter is limited so that this is nearly exact.
  """
  place = points * frequency
  corner = np.floor(place - 0.5).astype(np.int32)
  table = _table(seed, 4)
  first = np.full(len(points), 9.0, np.float32)
  second, number = first.copy(), first.copy()
  for offset in np.ndindex(2, 2, 2):
    cell = corner + np.asarray(offset, np.int32)
    wrapped = cell % _PERIOD
    random = table[wrapped[:, 0], wrapped[:, 1], wrapped[:, 2]]
    delta = cell + 0.15 + 0.7 * random[:, :3] - place
    distance = np.sqrt((delta * delta).sum(-1))
    nearer = distance < first
    second = np.where(nearer, first, np.minimum(second, distance))
    number = np.where(nearer, random[:, 3], number)
    first = np.where(nearer, distance, first)
  return first, second, number


def _plane(points, normals):
  """(across, up) coordinates of the coordinate plane a surface faces most."""
  axis = np.abs(normals).argmax(-1)
  across = np.where(axis == 0, points[:, 1], points[:, 0])
  up = np.where(axis == 2, points[:, 1], points[:, 2])
  return across, up


def _random(*indices):
  """Uniform numbers in [0, 1) that depend on integer-valued arrays."""
  table = _table(5, 1)[..., 0]
  i, j = (np.asarray(x, np.int64) % _PERIOD for x in indices)
  return table[i, j, (3 * i + 5 * j) % _PERIOD]


def _ramp(x, low, high):
  """0 below `low`, 1 above `high`, smooth between."""
  t = np.clip((x - low) / (high - low), 0, 1)
  return t * t * (3 - 2 * t)


def _tint(base, tone):
  """Base colour times a tone per point; above 1 it goes towards white."""
  tone = tone[:, None]
  return np.where(tone < 1, base * tone, base + (1 - base) * (tone - 1))


def _mix(first, second, weight):
  """The first where the weight [n] is 0, the second where it is 1."""
  return first + (second - first) * weight[:, None]


def _glints(normals):
  """Bright and dark bands that a room's reflection would leave, [-1, 1].

  They depend on the normal alone, not on the view: images stay consistent.
  """
  x, y, z = np.abs(normals).T
  return np.sin(9.0 * z + 4.0 * x - 2.0 * y)


# Patterns.


def _leather(points, normals, base):
  del normals
  first, second, number = _cells(points, 13.0)
  grain = _ramp(second - first, 0.02, 0.4)
  worn = _noise(points, 2.5, octaves=2, seed=2)
  return _tint(base, 0.45 + 0.6 * grain + 0.16 * number + 0.16 * worn)


def _wood(points, normals, base):
  del normals
  # Rings around an axis along y, bent by slow noise, and fine fibres.
  bend = 0.16 * _noise(points, (1.6, 0.5, 1.6), octaves=2, seed=3)
  radius = np.hypot(points[:, 0] - 0.7, points[:, 2] + 1.3) + bend
  ring = (radius * 8.0) % 1.0
  fibre = _noise(points, (34.0, 2.5, 34.0), seed=4)
  return _tint(base, 1.15 - 0.62 * _ramp(ring, 0.2, 0.95) + 0.16 * fibre)


def _marble(points, normals, base):
  del normals
  bend = _noise(points, 2.0, octaves=3, seed=6)
  vein = np.abs(np.sin(4.0 * points @ [0.7, 0.4, 0.9] + 3.5 * bend))
  thin = np.abs(_noise(points, 3.5, octaves=2, seed=7))
  dark = base.mean() < 0.35
  other = np.full(3, 0.88) if dark else 0.4 * base
  weight = np.maximum(1 - _ramp(vein, 0, 0.3), 0.8 * (1 - _ramp(thin, 0, 0.1)))
  cloud = 1 + 0.12 * _noise(points, 4.0, octaves=2, seed=8)
  return _mix(_tint(base, cloud), other, 0.85 * weight)


def _stone(points, normals, base):
  del normals
  first, second, number = _cells(points, 4.5, seed=9)
  crack = 1 - _ramp(second - first, 0.02, 0.14)
  rough = _noise(points, 9.0, octaves=3, seed=10)
  tone = 0.72 + 0.4 * number + 0.3 * rough - 0.5 * crack
  return _tint(base, np.maximum(tone, 0.15))


def _brick(points, normals, base):
  across, up = _plane(points, normals)
  row = np.floor(up / 0.13)
  x = across / 0.3 + 0.5 * (row % 2)
  y = up / 0.13 - row
  side, end = np.minimum(y, 1 - y) * 0.13, np.minimum(x % 1, 1 - x % 1) * 0.3
  edge = np.minimum(side, end)
  mortar = 1 - _ramp(edge, 0.008, 0.02)
  rough = _noise(points, 16.0, octaves=2, seed=11)
  tone = 0.65 + 0.5 * _random(np.floor(x), row) + 0.16 * rough
  joint = np.full(3, 0.74) + 0.1 * rough[:, None]
  return _mix(_tint(base, tone), joint, mortar)


def _metal(points, normals, base):
  streak = _noise(points, (3.0, 3.0, 44.0), octaves=2, seed=12)
  return _tint(base, 0.95 + 0.4 * _glints(normals) + 0.3 * streak)


def _hammered(points, normals, base):
  first, _, number = _cells(points, 8.0, seed=13)
  dent = 1.5 - 0.95 * _ramp(first, 0.1, 0.7) + 0.3 * (number - 0.5)
  return _tint(base, dent + 0.18 * _glints(normals))


def _plaid(points, normals, base):
  across, up = _plane(points, normals)
  color = np.broadcast_to(base, points.shape)
  for place in (across, up):
    phase = (place / 0.34) % 1
    wide = (phase < 0.4).astype(np.float32)
    line = (np.abs(phase - 0.7) < 0.07).astype(np.float32)
    color = _mix(color, 0.28 * base, 0.5 * wide)
    color = _mix(color, np.array([0.95, 0.93, 0.85]), 0.6 * line)
  return color * (1 + 0.1 * _noise(points, 28.0, seed=14))[:, None]


def _striped(points, normals, base):
  across, _ = _plane(points, normals)
  light = np.array([0.95, 0.94, 0.9])
  weight = _ramp(np.abs((across / 0.2) % 1 - 0.5), 0.23, 0.27)
  color = _mix(np.broadcast_to(base, points.shape), light, weight)
  return color * (1 + 0.08 * _noise(points, 26.0, seed=15))[:, None]


def _knitted(points, normals, base):
  across, up = _plane(points, normals)
  column = (across / 0.11) % 1
  side = np.abs(2 * column - 1)
  # Two slanted loops to a column make the V of a stocking stitch.
  loop = (up / 0.085 + 0.75 * side) % 1
  yarn = np.sin(np.pi * loop) * np.sin(np.pi * np.clip(side, 0.06, 0.94)) ** 0.4
  fuzz = _noise(points, 22.0, seed=16)
  return _tint(base, 0.4 + 0.78 * yarn + 0.12 * fuzz)


def _denim(points, normals, base):
  across, up = _plane(points, normals)
  twill = np.sin(2 * np.pi * (across + up) / 0.06)
  worn = _noise(points, 3.0, octaves=3, seed=17)
  tone = 0.85 + 0.22 * twill + 0.4 * worn
  seam = np.abs((across / 0.55) % 1 - 0.5) * 0.55
  stitch = (seam < 0.014) & ((up / 0.07) % 1 < 0.65)
  thread = np.array([0.88, 0.6, 0.22])
  return _mix(_tint(base, tone), thread, stitch.astype(np.float32))


def _plastic(points, normals, base):
  across, up = _plane(points, normals)
  x, y = ((p / 0.17) % 1 - 0.5 for p in (across, up))
  stud = 1 - _ramp(np.hypot(x, y), 0.27, 0.33)
  rim = stud * _ramp(np.hypot(x - 0.06, y + 0.06), 0.16, 0.3)
  glint = 1 - _ramp(np.hypot(x + 0.1, y - 0.1), 0.03, 0.11)
  shadow = (1 - stud) * (1 - _ramp(np.hypot(x - 0.08, y + 0.1), 0.28, 0.42))
  tone = 0.95 + 0.12 * stud + 0.7 * glint - 0.25 * rim - 0.4 * shadow
  return _tint(base, tone)


def _polka_dots(points, normals, base):
  across, up = _plane(points, normals)
  row = np.floor(up / 0.17)
  x = (across / 0.2 + 0.5 * (row % 2)) % 1 - 0.5
  y = up / 0.17 - row - 0.5
  dot = 1 - _ramp(np.hypot(x * 0.2, y * 0.17), 0.05, 0.062)
  color = _mix(np.broadcast_to(base, points.shape), np.full(3, 0.97), dot)
  return color * (1 + 0.07 * _noise(points, 26.0, seed=18))[:, None]


def _wicker(points, normals, base):
  across, up = _plane(points, normals)
  x, y = across / 0.11, up / 0.11
  over = (np.floor(x) + np.floor(y)) % 2
  # Each square shows a strand that runs across or up, rounded at its edges.
  along, profile = np.where(over, x % 1, y % 1), np.where(over, y % 1, x % 1)
  bulge = np.sin(np.pi * profile) ** 0.6 * (0.55 + 0.45 * np.sin(np.pi * along))
  lines = 0.1 * np.sin(6 * np.pi * profile)
  grain = _noise(points, 18.0, seed=19)
  return _tint(base, 0.25 + 0.95 * bulge + lines + 0.1 * grain)


def _mosaic(points, normals, base):
  across, up = _plane(points, normals)
  x, y = across / 0.105, up / 0.105
  edge = np.minimum(np.minimum(x % 1, 1 - x % 1), np.minimum(y % 1, 1 - y % 1))
  grout = 1 - _ramp(edge, 0.06, 0.14)
  pick = _random(np.floor(x), np.floor(y))
  tile = _tint(base, 0.5 + 0.95 * pick)
  shine = _ramp(x % 1 + y % 1, 1.35, 1.6) * 0.12
  return _mix(tile + shine[:, None], np.full(3, 0.86), grout)


def _camouflage(points, normals, base):
  del normals
  color = np.broadcast_to(base, points.shape)
  for seed, shade in enumerate((0.5 * base, 0.55 * base + 0.3, 0.3 * base)):
    blob = _noise(points, 3.6, octaves=2, seed=20 + seed)
    color = _mix(color, shade, _ramp(blob, 0.22, 0.27))
  return color


_ALL = (
  Material(
    name="leather",
    colors=("red", "brown", "black", "white", "green", "blue"),
    pattern=_leather,
  ),
  Material(
    name="wood",
    colors=("brown", "red", "orange", "white", "gray"),
    pattern=_wood,
  ),
  Material(
    name="marble",
    colors=("white", "black", "green", "pink", "gray"),
    pattern=_marble,
  ),
  Material(
    name="stone",
    colors=("gray", "brown", "white", "blue"),
    pattern=_stone,
  ),
  Material(
    name="brick",
    colors=("red", "orange", "brown", "gray"),
    pattern=_brick,
  ),
  Material(
    name="brushed metal",
    colors=("silver", "gold", "copper", "blue", "red"),
    pattern=_metal,
  ),
  Material(
    name="hammered metal",
    colors=("gold", "copper", "silver"),
    pattern=_hammered,
  ),
  Material(name="plaid", colors=_VIVID, pattern=_plaid),
  Material(name="striped fabric", colors=_VIVID, pattern=_striped),
  Material(
    name="knitted wool",
    colors=_VIVID + ("white", "gray"),
    pattern=_knitted,
  ),
  Material(name="denim", colors=("blue", "gray", "black"), pattern=_denim),
  Material(name="plastic", colors=_VIVID, pattern=_plastic),
  Material(name="polka dot", colors=_VIVID, pattern=_polka_dots),
  Material(
    name="wicker",
    colors=("orange", "brown", "white", "gray"),
    pattern=_wicker,
  ),
  Material(
    name="mosaic tile",
    colors=("blue", "green", "red", "purple", "yellow"),
    pattern=_mosaic,
  ),
  Material(
    name="camouflage",
    colors=("green", "brown", "gray", "blue"),
    pattern=_camouflage,
  ),
)
MATERIALS = {material.name: material for material in _ALL}
