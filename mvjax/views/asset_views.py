"""Views of one object, and an asset: such views still on disk.

Every source of views ends here, and what measures or reconstructs begins here.
"""

import dataclasses
import hashlib
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jaxtyping import Float

from mvjax import geometry
from mvjax.views import masks


@dataclasses.dataclass(frozen=True, kw_only=True)
class Views:
  """Decoded views of one asset.

  Attributes:
    image: in [-1, 1]; transparent pictures are put on white.
    alpha: coverage in [0, 1]; None if the pictures are opaque.
    background: colour behind the object of each view; None is white.
    depth: true z-depth, 0 where there is no surface; None if unknown.
    camera: [v]; None if unknown.
  """

  image: Float[np.ndarray, "v h w 3"]
  alpha: Float[np.ndarray, "v h w"] | None = None
  background: Float[np.ndarray, "v 3"] | None = None
  depth: Float[np.ndarray, "v h w"] | None = None
  camera: geometry.Camera | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Asset:
  """Views that belong together, still on disk.

  Attributes:
    name: unique in its set.
    source: the folder or data set that it lies in.
    prompt: the text it was made from; the folder's name if nothing tells.
    digest: changes when a picture or a camera does.
    num_views: how many there are.
    has_cameras: whether their cameras are known.
    record: its sample.json, or nothing.
    read: decodes the views.
  """

  name: str
  source: str
  prompt: str
  digest: str
  num_views: int
  has_cameras: bool
  record: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  read: Callable[[], Views]

  @property
  def metric_cameras(self) -> bool:
    """Whether lens and distance are known; nominal ones are to be searched."""
    return self.record.get("metric_cameras") is not False

  @property
  def cluster(self) -> str:
    """Samples of one prompt with several seeds have it in common."""
    return self.prompt if "seed" in self.record else self.name


def digest(parts: Sequence[bytes | pathlib.Path]) -> str:
  """Changes when a part does, or their order; a file is its content."""
  found = hashlib.sha256()
  for part in parts:
    if isinstance(part, pathlib.Path):
      with part.open("rb") as file:  # of any size
        found.update(hashlib.file_digest(file, "sha256").digest())
    else:
      found.update(hashlib.sha256(part).digest())
  return found.hexdigest()[:16]


def with_masks(given: Views, *, allow_empty: bool = False) -> Views:
  """The views with alpha: found from the background if the files have none.

  Args:
    given: the views.
    allow_empty: a view that shows nothing has an empty mask.

  Raises:
    ValueError: a view shows nothing, and must not.
  """
  if given.alpha is not None:
    return given
  found, background = masks.find_masks(given.image, allow_empty=allow_empty)
  return dataclasses.replace(
    given, alpha=found.astype(np.float32), background=background
  )


def take(views: Views, chosen: Sequence[int]) -> Views:
  """Some of the views."""
  index = np.asarray(chosen, int)
  fields = {f.name: getattr(views, f.name) for f in dataclasses.fields(views)}
  return Views(**jax.tree.map(lambda x: np.asarray(x)[index], fields))


def ring_order(camera: geometry.Camera) -> list[int]:
  """View numbers in order of azimuth; neighbours are consecutive views."""
  position = np.asarray(camera.camera_to_world)[:, :3, 3]
  azimuth = np.arctan2(position[:, 1], position[:, 0])
  return [int(i) for i in np.argsort(np.round(azimuth, 4), kind="stable")]


def ring_pairs(camera: geometry.Camera) -> list[tuple[int, int]]:
  """Every view with the next one around the object, closed to a ring."""
  order = ring_order(camera)
  if len(order) < 3:
    return list(zip(order[:-1], order[1:], strict=True))
  return list(zip(order, order[1:] + order[:1], strict=True))
