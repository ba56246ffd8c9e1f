import jax.numpy as jnp
import numpy as np
import planted
import pytest
import trimesh

from mvjax import geometry
from mvjax.reconstruction import field, texture, visibility
from mvjax.views import asset_views

_GREEN = np.array([-1, 1, -1])


@pytest.fixture(scope="module")
def surface():
  """The boxes' mesh, finely divided, with shared vertices."""
  asset = planted.two_boxes()
  whole = trimesh.Trimesh(asset.vertices, asset.faces, process=True)
  return whole.subdivide().subdivide().subdivide()


@pytest.fixture(scope="module")
def given():
  return planted.views(planted.two_boxes(), planted.orbits(8), size=96)


@pytest.fixture(scope="module")
def green():
  values = jnp.tile(jnp.array([1.0, -30, 30, -30]), (4, 4, 4, 1))
  return field.Field(
    values=values,
    occupancy=jnp.ones((4, 4, 4), bool),
    low=-jnp.ones(3),
    high=jnp.ones(3),
  )


def _faces(surface, low, high, normal):
  """Faces within a box that look in a direction."""
  middle = surface.triangles_center
  inside = ((middle > low) & (middle < high)).all(-1)
  return inside & (surface.face_normals @ np.asarray(normal) > 0.99)


def test_points_take_the_colours_that_views_show(surface, given, green):
  colours = texture.blend(
    surface,
    np.asarray(surface.triangles_center),
    np.asarray(surface.face_normals),
    given,
    green,
  )
  ends = 0.07  # Away from the edges, where pixels are mixed.
  red = _faces(
    surface, [0 + ends, -0.2 + ends, 0.4], [0.4 - ends, 0.2, 1], [0, 0, 1]
  )
  blue = _faces(surface, [-0.45, -0.3, -0.3], [-0.44, 0.3, -0.1], [-1, 0, 0])
  under = _faces(surface, [-1, -1, -1], [1, 1, -0.39], [0, 0, -1])
  assert min(red.sum(), blue.sum(), under.sum()) > 3
  for where, expected in (
    (red, np.array(planted.RED) / 127.5 - 1),
    (blue, np.array(planted.BLUE) / 127.5 - 1),
    (under, _GREEN),  # Seen by no view: the field's colour.
  ):
    np.testing.assert_allclose(
      colours[where], np.tile(expected, (where.sum(), 1)), atol=0.05
    )


def test_the_texture_shows_the_same(surface, given, green):
  asset = texture.bake(surface, given, green, size=128)
  triangles = asset.vertices[asset.faces]
  uv = asset.uv[asset.faces].mean(1)
  height, width = asset.texture.shape[:2]
  texel = asset.texture[
    ((1 - uv[:, 1]) * height).astype(int), (uv[:, 0] * width).astype(int)
  ]
  middle = triangles.mean(1)
  normal = np.cross(
    triangles[:, 1] - triangles[:, 0], triangles[:, 2] - triangles[:, 0]
  )
  up = normal[:, 2] > 0.99 * np.linalg.norm(normal, axis=-1)
  top = up & (middle[:, 2] > 0.45) & (np.abs(middle[:, 1]) < 0.12)
  assert top.sum() > 3
  np.testing.assert_allclose(
    texel[top], np.tile(planted.RED, (top.sum(), 1)), atol=8
  )
  assert ((asset.uv >= 0) & (asset.uv <= 1)).all()
  np.testing.assert_allclose(
    np.linalg.norm(asset.normals, axis=-1), 1, atol=1e-5
  )
  # Splitting along seams moves no triangle.
  np.testing.assert_allclose(
    0.5 * np.linalg.norm(normal, axis=-1).sum(), surface.area, rtol=1e-4
  )


def test_views_share_a_face_by_the_fourth_power_of_the_cosine(green):
  """One view is red, one is blue: their shares of a floor's colour are known.

  A camera at an elevation looks at a floor under its complement.
  """
  elevation = np.array([1.2, 0.7])
  camera = geometry.orbit(
    azimuth=np.array([0.0, 2.0]),
    elevation=elevation,
    distance=3.0,
    field_of_view=0.7,
    xnp=np,
  )
  colours = np.array([[1.0, -1, -1], [-1, -1, 1]], np.float32)
  given = asset_views.Views(
    image=np.tile(colours[:, None, None], (1, 16, 16, 1)),
    alpha=np.ones((2, 16, 16), np.float32),
    camera=camera,
  )
  floor = trimesh.creation.box((1.0, 1.0, 0.2))
  floor.apply_translation((0, 0, -0.1))
  rgb = texture.blend(
    floor, np.zeros((1, 3)), np.array([[0.0, 0, 1]]), given, green
  )
  red, _, blue = (rgb[0] + 1) / 2
  one, other = np.sin(elevation) ** 4
  assert red / blue == pytest.approx(one / other, rel=1e-3)
  # The field's green has next to no share where views have one.
  assert red + blue == pytest.approx(1, abs=5e-3)


def test_hidden_points_are_not_seen(surface):
  camera = geometry.orbit(
    azimuth=np.array([0.0, np.pi]),
    elevation=0.1,
    distance=3.0,
    field_of_view=0.7,
    xnp=np,
  )
  points = np.array(
    [
      [0.4, 0.0, 0.25],  # Front of the red box.
      [-0.3, 0.0, 0.0],  # On the wide box, behind the red one.
      [0.0, 0.0, -0.4],  # Underside.
    ]
  )
  normals = np.array([[1.0, 0, 0], [0, 0, 1], [0, 0, -1]])
  seen = visibility.cosines(surface, points, normals, camera) > 0
  # The second slants too much at this elevation, until the camera rises.
  np.testing.assert_array_equal(
    seen[:, [0, 2]], [[True, False], [False, False]]
  )
  high = geometry.orbit(
    azimuth=np.array([0.0, np.pi]),
    elevation=0.5,
    distance=3.0,
    field_of_view=0.7,
    xnp=np,
  )
  seen = visibility.cosines(surface, points, normals, high)
  assert seen[0, 1] == 0
  assert seen[1, 1] > 0
  direction = high.camera_to_world[1, :3, 3] - points[1]
  np.testing.assert_allclose(
    seen[1, 1], direction[2] / np.linalg.norm(direction), rtol=1e-4
  )


def test_coverage_adds_up_and_finds_the_underside(surface):
  few = visibility.coverage(surface, planted.orbits(2))
  many = visibility.coverage(surface, planted.orbits(12))
  for shares in (few, many):
    np.testing.assert_allclose(sum(shares.values()), 1, atol=1e-5)
  assert few["seen_by_none"] > many["seen_by_none"]
  # The underside of the wide box is never seen.
  assert many["seen_by_none"] >= 0.9 * 0.8 / surface.area - 1e-5
  assert many["seen_by_more"] > few["seen_by_more"]
