import jax.numpy as jnp
import numpy as np
import planted
import pytest

from mvjax.reconstruction import field, hull, mesh

_LOW, _HIGH = np.array([-1.0, -0.6, -0.2]), np.array([1.0, 1.0, 0.9])
_CUBE = np.array([[-0.2, 0.1, 0.0], [0.4, 0.7, 0.5]])
_SETTINGS = mesh.Settings(smoothing=0, max_faces=10**6)
_GRID = 48


def _planted(is_solid):
  """A field that is opaque where a function of world points says so."""
  low, high = jnp.asarray(_LOW, jnp.float32), jnp.asarray(_HIGH, jnp.float32)
  points = np.asarray(hull.centres(low, high, _GRID))
  raw = np.where(is_solid(points), 40.0, -12.0)
  return field.Field(
    values=jnp.asarray(np.repeat(raw[..., None], 4, -1), jnp.float32),
    occupancy=jnp.ones((_GRID,) * 3, bool),
    low=low,
    high=high,
  )


def _in_cube(points, margin=0.0):
  inside = (points > _CUBE[0] + margin) & (points < _CUBE[1] - margin)
  return inside.all(-1)


def _extract(planted_field, settings=_SETTINGS):
  """With views that see nothing, so that nothing is hidden."""
  camera = planted.orbits(4)
  nothing = np.zeros((4, 8, 8), np.float32)
  shown = field.Rendered(rgb=nothing[..., None], alpha=nothing, depth=nothing)
  return mesh.extract(planted_field, shown, camera, settings)


def test_a_planted_cube_is_where_it_was():
  surface = _extract(_planted(_in_cube))
  side = (_HIGH - _LOW) / _GRID
  np.testing.assert_allclose(surface.bounds, _CUBE, atol=1.2 * side.max())
  np.testing.assert_allclose(
    surface.center_mass, _CUBE.mean(0), atol=0.3 * side.max()
  )
  # Positive: the faces look outwards.
  assert surface.is_watertight
  assert 0.9 < surface.volume / np.prod(_CUBE[1] - _CUBE[0]) < 1.25


def test_cavities_are_filled_and_specks_dropped():
  def solid(points):
    hollow = _in_cube(points) & ~_in_cube(points, 0.12)
    speck = np.linalg.norm(points - [-0.8, -0.4, 0.6], axis=-1) < 0.05
    assert speck.any()
    return hollow | speck

  surface = _extract(_planted(solid))
  assert surface.body_count == 1
  full = _extract(_planted(_in_cube))
  np.testing.assert_allclose(surface.volume, full.volume, rtol=0.02)


def test_what_no_view_sees_is_solid(boxes):
  _, given, fitted = boxes
  shown = field.render(fitted, given.camera, 48)
  hidden = mesh.hidden(fitted, shown.depth, given.camera)
  points = np.asarray(hull.centres(fitted.low, fitted.high, planted.SMALL.grid))
  inside = (np.abs(points - [0, 0, -0.2]) < 0.12).all(-1)
  # Not all: plain colours leave some fog, which views look into.
  assert hidden[inside].mean() > 0.6
  air = points[..., 2] > 0.2
  air &= points[..., 0] < -0.2  # Above the wide box, beside the small one.
  assert hidden[air].mean() < 0.05


def test_the_surface_of_fitted_boxes(boxes):
  asset, given, fitted = boxes
  shown = field.render(fitted, given.camera, 48)
  surface = mesh.extract(fitted, shown, given.camera, mesh.Settings())
  true = np.stack([asset.vertices.min(0), asset.vertices.max(0)])
  # The underside is never seen; the rest is right within two voxels.
  np.testing.assert_allclose(surface.bounds[1], true[1], atol=0.07)
  np.testing.assert_allclose(surface.bounds[0, :2], true[0, :2], atol=0.07)
  assert len(surface.faces) <= 1.05 * mesh.Settings().max_faces


def test_decimation_keeps_shape_and_limit():
  fine = _extract(_planted(_in_cube))
  coarse = _extract(_planted(_in_cube), mesh.Settings(max_faces=500))
  assert len(fine.faces) > 2000
  assert len(coarse.faces) <= 520
  np.testing.assert_allclose(coarse.volume, fine.volume, rtol=0.05)
  assert (coarse.area_faces > 0).all()


def test_an_empty_field_is_refused():
  with pytest.raises(ValueError, match="nothing of the field is solid"):
    _extract(_planted(lambda points: np.zeros(points.shape[:-1], bool)))
