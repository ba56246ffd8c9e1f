import fake_objects
import numpy as np
import pytest
import trimesh

from data_pipeline import meshes, raycast
from mvjax import geometry


def _cameras(azimuth, elevation=0.3, distance=3.0):
  return geometry.orbit(
    azimuth=np.asarray(azimuth),
    elevation=elevation,
    distance=distance,
    field_of_view=np.radians(40),
    xnp=np,
  )


def _plane(x, name):
  """A square across the world's x axis, which is the file's z axis."""
  corners = [(-1, -1), (1, -1), (1, 1), (-1, 1)]
  return (
    "".join(f"v {y} {z} {x}\n" for y, z in corners)
    + f"usemtl {name}\nf -4 -3 -2 -1\n"
  )


@pytest.fixture(scope="module")
def sphere(tmp_path_factory):
  path = tmp_path_factory.mktemp("sphere") / "s.obj"
  fine = trimesh.creation.icosphere(subdivisions=5)
  return meshes.load(fake_objects.write_mesh(path, fine))


def test_sphere_matches_the_closed_form(sphere):
  camera = _cameras([0.4, 2.0])
  size = 64
  origins, directions = geometry.rays(camera, size, size, xnp=np)
  near, far = geometry.ray_sphere(origins, directions, 1.0, xnp=np)
  forward = camera.camera_to_world[:, :3, 2]
  cosine = (directions * forward[:, None, None]).sum(-1)
  for view, hits in enumerate(raycast.cast(sphere, camera, size=size)):
    inside = (far > near)[view].reshape(-1)
    # Triangles lie just under the sphere: its silhouette may lose some rays.
    seen = np.zeros(size**2, bool)
    seen[hits.sample] = True
    assert not (seen & ~inside).any()
    assert (seen != inside).mean() < 0.01
    expected = (near * cosine)[view].reshape(-1)[hits.sample]
    error = np.abs(hits.depth - expected)
    assert np.median(error) < 1e-3
    assert np.quantile(error, 0.95) < 0.01
    np.testing.assert_allclose(
      np.linalg.norm(hits.points, axis=-1), 1, atol=2e-3
    )
    np.testing.assert_allclose(hits.normals, hits.points, atol=0.02)


def test_hits_project_back_to_their_samples(sphere):
  camera = _cameras([1.0])
  (hits,) = raycast.cast(sphere, camera, size=40)
  uv, depth = geometry.project(camera, hits.points[None], xnp=np)
  row, column = np.divmod(hits.sample, 40)
  np.testing.assert_allclose(uv[0, :, 0] * 40, column + 0.5, atol=1e-3)
  np.testing.assert_allclose(uv[0, :, 1] * 40, row + 0.5, atol=1e-3)
  np.testing.assert_allclose(depth[0], hits.depth, atol=1e-5)


def test_winding_does_not_matter(tmp_path):
  box = trimesh.creation.box((1, 2, 3))
  results = []
  for name in ("out.obj", "in.obj"):
    mesh = meshes.load(fake_objects.write_mesh(tmp_path / name, box))
    results += raycast.cast(mesh, _cameras([0.5]), size=32)
    box.invert()
  outward, inward = results
  np.testing.assert_array_equal(outward.sample, inward.sample)
  np.testing.assert_allclose(outward.depth, inward.depth, atol=1e-5)
  np.testing.assert_allclose(outward.normals, inward.normals, atol=1e-5)


def test_all_normals_face_the_camera(tmp_path):
  open_box = trimesh.creation.box((1, 1, 1))
  open_box.update_faces(open_box.face_normals[:, 1] < 0.5)  # No lid.
  mesh = meshes.load(fake_objects.write_mesh(tmp_path / "o.obj", open_box))
  camera = _cameras([0.2], elevation=0.9)
  (hits,) = raycast.cast(mesh, camera, size=32)
  towards = camera.camera_to_world[0, :3, 3] - hits.points
  assert ((hits.normals * towards).sum(-1) > 0).all()


@pytest.mark.parametrize(
  ("opacity", "front_seen"), [(0.1, False), (0.29, False), (0.5, True)]
)
def test_rays_pass_through_what_is_nearly_transparent(
  tmp_path, opacity, front_seen
):
  path = fake_objects.write_obj(
    tmp_path / "g.obj",
    _plane(0.5, "glass") + _plane(0.4, "glass") + _plane(-0.5, "wall"),
    f"newmtl glass\nKd 0 0 1\nd {opacity}\nnewmtl wall\nKd 1 0 0\n",
  )
  (hits,) = raycast.cast(
    meshes.load(path), _cameras([0.1], elevation=0.05), size=32
  )
  # Some rays meet the glass at its edge and never the wall.
  middle = np.abs(hits.points[:, 1:]).max(-1) < 0.4
  assert middle.sum() > 20
  blue = hits.albedo[middle, 2] > 0.9
  assert (blue == front_seen).all()
  assert ((hits.points[middle, 0] > 0) == front_seen).all()


def test_a_textured_box_keeps_its_colours(tmp_path):
  mesh = meshes.load(fake_objects.write_painted_box(tmp_path / "box.obj"))
  # Samples on a texel border see a mixture.
  allowed = np.concatenate([fake_objects.COLORS, [[120, 120, 120]]]) / 255.0
  found = set()
  for hits in raycast.cast(mesh, _cameras([0.3, 2.0, 4.0]), size=48):
    distance = np.abs(hits.albedo[:, None] - allowed).max(-1)
    assert (distance.min(-1) < 0.02).mean() > 0.85
    found |= set(distance.argmin(-1)[distance.min(-1) < 0.02].tolist())
  # From above: all but the underside.
  assert len(found) == len(allowed) - 1
