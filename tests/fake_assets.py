"""Sample folders whose figures can be worked out by hand."""

import io
import json

import numpy as np
from PIL import Image

from mvjax import geometry
from mvjax.evaluation import refit
from mvjax.views import asset_views, viewpoints

RADIUS, DISTANCE, FOV = 0.7, 3.0, 40.0


def ring(count, *, elevation=0.0):
  return viewpoints.orbit(
    count,
    azimuth=0.0,
    elevation=elevation,
    distance=DISTANCE,
    field_of_view=FOV,
  )


def sphere_depth(camera, size):
  """True z-depth [v h w] of the ball of radius `RADIUS`; 0 outside."""
  origins, directions = geometry.rays(camera, size, size, xnp=np)
  closest = -(origins * directions).sum(-1)
  square = RADIUS**2 - ((origins + closest[..., None] * directions) ** 2).sum(
    -1
  )
  hit = square > 0
  distance = closest - np.sqrt(np.where(hit, square, 0))
  forward = np.asarray(camera.camera_to_world)[:, None, None, :3, 2]
  slant = (directions * forward).sum(-1)
  return np.where(hit, distance * slant, 0).astype(np.float32)


def surface_points(camera, depth):
  """World points [v h w 3] of a depth map."""
  size = depth.shape[1]
  origins, directions = geometry.rays(camera, size, size, xnp=np)
  forward = np.asarray(camera.camera_to_world)[:, None, None, :3, 2]
  slant = (directions * forward).sum(-1)
  return origins + (depth / slant)[..., None] * directions


def texture(points, *, frequency=9.0):
  """A colour in [-1, 1] for every point of the world: many random waves."""
  rng = np.random.default_rng(int(frequency))
  total = np.zeros(points.shape)
  for _ in range(30):
    wave = points @ rng.normal(0, frequency, 3) + rng.uniform(0, 6)
    total += rng.normal(0, 0.12, 3) * np.sin(wave)[..., None]
  return np.clip(total, -0.95, 0.95)


def ball(count, *, size=64, colours=None, elevation=0.0, frequency=9.0):
  """Views of a textured ball, or of one that has a colour in each view."""
  camera = ring(count, elevation=elevation)
  depth = sphere_depth(camera, size)
  image = texture(surface_points(camera, depth), frequency=frequency)
  if colours is not None:
    image = np.broadcast_to(
      np.asarray(colours)[:, None, None, None], image.shape
    )
  alpha = (depth > 0).astype(np.float32)
  image = np.where(alpha[..., None] > 0, image, 1.0)
  return asset_views.Views(
    image=image.astype(np.float32), alpha=alpha, depth=depth, camera=camera
  )


class StandInRefit:
  """A ball of one colour, and how often it was fitted."""

  def __init__(self):
    self.fits = 0
    self.refit = refit.Refit(fit=self._fit, render=self._render, settings=[1])

  def _fit(self, given):
    self.fits += 1
    return given.image[given.alpha > 0.5].mean(0)

  def _render(self, colour, given):
    depth = sphere_depth(given.camera, given.image.shape[1])
    alpha = (depth > 0).astype(np.float32)
    image = np.where(alpha[..., None] > 0, colour, 1.0)
    return refit.Rendered(image, alpha, depth)


def png(levels):
  """The bytes of a picture file."""
  buffer = io.BytesIO()
  Image.fromarray(levels).save(buffer, "PNG")
  return buffer.getvalue()


def rename_views(folder, name_of):
  """Moves the picture of frame i to name_of(i), and tells the frames."""
  poses = folder / "transforms.json"
  content = json.loads(poses.read_text())
  for i, frame in enumerate(content["frames"]):
    new = folder / name_of(i)
    new.parent.mkdir(exist_ok=True)
    (folder / frame["file_path"]).rename(new)
    frame["file_path"] = name_of(i)
  poses.write_text(json.dumps(content))


def write(folder, given, *, prompt=None, seed=0, record=None, opaque=False):
  """A sample folder as `launch.py sample` writes it."""
  folder.mkdir(parents=True)
  levels = np.round((given.image + 1) * 127.5).astype(np.uint8)
  for i, image in enumerate(levels):
    if not opaque and given.alpha is not None:
      alpha = np.round(given.alpha[i] * 255).astype(np.uint8)
      image = np.concatenate([image, alpha[..., None]], -1)
    Image.fromarray(image).save(folder / f"view_{i:02d}.png")
  Image.fromarray(levels[0]).save(folder / "grid.png")
  if given.camera is not None:
    content = viewpoints.transforms(given.camera, levels.shape[1])
    (folder / "transforms.json").write_text(json.dumps(content))
  if prompt is not None:
    content = {"prompt": prompt, **(record or {})}
    content |= {} if seed is None else {"seed": seed}
    (folder / "sample.json").write_text(json.dumps(content))
