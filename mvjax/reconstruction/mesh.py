"""The field's surface as triangles: marching cubes, cleaning, decimation."""

import dataclasses

import fast_simplification
import jax
import numpy as np
import trimesh
from jaxtyping import Array, Bool, Float
from scipy import ndimage
from skimage import measure
from trimesh import smoothing

from mvjax import geometry
from mvjax.reconstruction import field as fields
from mvjax.reconstruction import hull, volume

# A voxel that stops this share of the light belongs to the object.
_SOLID = 0.25
# Pieces smaller than this share of the volume are dropped.
_SMALLEST_PIECE = 0.01
# So many voxels behind the surface that a view shows, it sees no more.
_BEHIND = 1.0
# Empty voxels around the grid: surfaces close at the border of its box.
_MARGIN = 3
# Of an asset that programs still open with ease.
_MOST_FACES = 2_000_000


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
  """How the surface is made.

  Attributes:
    max_faces: triangles after decimation, about.
    blur: standard deviation, in half voxels of the field, of the filter before
      marching cubes.
    smoothing: rounds of Taubin's filter, which keeps the volume.
  """

  max_faces: int = 12000
  blur: float = 0.7
  smoothing: int = 10

  def __post_init__(self):
    if not 4 <= self.max_faces <= _MOST_FACES:
      raise ValueError(
        f"max_faces={self.max_faces}: a solid needs 4 or more; at most "
        f"{_MOST_FACES} are made"
      )
    for name in ("blur", "smoothing"):
      if getattr(self, name) < 0:
        raise ValueError(
          f"{name}={getattr(self, name)}: must be 0 (none) or more"
        )


def extract(
  field: fields.Field,
  shown: fields.Rendered,
  camera: geometry.Camera,
  settings: Settings,
) -> trimesh.Trimesh:
  """The surface in world coordinates, faces counter-clockwise from outside.

  What no view can look into is undecided, and taken as solid.

  Args:
    field: the fitted field.
    shown: its renders at the cameras it was fitted to.
    camera: these cameras [v].
    settings: see there.

  Raises:
    ValueError: nothing of the field is solid.
  """
  # Between the voxels' centres surfaces are sharper than the grid.
  field = volume.refine(field)
  solidity = np.maximum(
    volume.solidity(field), hidden(field, shown.depth, camera)
  )
  padded = np.pad(_without_specks(solidity), _MARGIN)
  padded = ndimage.gaussian_filter(padded, settings.blur)
  if padded.max() <= _SOLID:
    raise ValueError(
      "nothing of the field is solid; do views and cameras belong together? "
      "Try search_cameras"
    )
  vertices, faces, _, _ = measure.marching_cubes(
    padded, _SOLID, gradient_direction="ascent"
  )
  low, high = np.asarray(field.low), np.asarray(field.high)
  side = (high - low) / solidity.shape
  surface = trimesh.Trimesh(low + (vertices - _MARGIN + 0.5) * side, faces)
  if settings.smoothing:
    smoothing.filter_taubin(surface, iterations=settings.smoothing)
  return _decimate(surface, settings.max_faces)


@jax.jit
def hidden(
  field: fields.Field, depth: Float[Array, "v h w"], camera: geometry.Camera
) -> Bool[Array, "g g g"]:
  """Voxels of the hull that lie behind the surface in every view.

  Args:
    field: the field.
    depth: of the surface in each view; 0 where there is none.
    camera: cameras [v].
  """
  grid = field.occupancy.shape[0]
  points = hull.centres(field.low, field.high, grid).reshape(-1, 3)
  margin = _BEHIND * (field.high - field.low).mean() / grid

  def look(behind_all, view):
    surface, one = view
    row, column, along = hull.nearest_pixels(one, points, surface.shape)
    front = surface[row, column]
    behind = (front > 0) & (along > front + margin)
    return behind_all & behind, None

  start = field.occupancy.reshape(-1)
  result, _ = jax.lax.scan(look, start, (depth, camera))
  return result.reshape(grid, grid, grid)


def _without_specks(
  solidity: Float[np.ndarray, "g g g"],
) -> Float[np.ndarray, "g g g"]:
  """Keeps the large solid pieces and what shapes their surface."""
  solid = solidity > _SOLID
  labels, _ = ndimage.label(solid)
  sizes = np.bincount(labels.reshape(-1))
  sizes[0] = 0
  keep = (sizes >= _SMALLEST_PIECE * solid.sum())[labels] & solid
  filled = ndimage.binary_fill_holes(keep) & ~keep
  near = ndimage.binary_dilation(keep)
  return np.where(filled, 1.0, np.where(near, solidity, 0.0))


def _decimate(surface: trimesh.Trimesh, max_faces: int) -> trimesh.Trimesh:
  """At most about `max_faces` triangles, none degenerate."""
  vertices, faces = surface.vertices, surface.faces
  if len(faces) > max_faces:
    vertices, faces, *_ = fast_simplification.simplify(
      np.asarray(vertices, np.float32),
      np.asarray(faces, np.int32),
      target_count=max_faces,
    )
  result = trimesh.Trimesh(vertices, faces, process=True)
  a, b, c = result.faces.T
  different = (a != b) & (b != c) & (c != a)
  result.update_faces(different & (result.area_faces > 1e-12))
  result.remove_unreferenced_vertices()
  return result
