import fake_objects
import numpy as np
import pytest
import trimesh
from PIL import Image

from data_pipeline import meshes

_TETRAHEDRON = """v 0 0 0
v 4 0 0
v 0 2 0
v 0 0 1
f 1 2 3
f 1 2 4
f 1 3 4
f 2 3 4
"""
_QUAD = """v 0 0 0
v 1 0 0
v 1 1 0
v 0 1 0
vt 0 0
vt 1 0
vt 1 1
vt 0 1
usemtl m
f 1/1 2/2 3/3 4/4
"""


def test_fits_the_unit_ball(tmp_path):
  mesh = trimesh.creation.box((1, 7, 3))
  mesh.apply_translation((50, 60, 70))
  mesh = meshes.load(fake_objects.write_mesh(tmp_path / "b.obj", mesh))
  np.testing.assert_allclose(np.linalg.norm(mesh.vertices, axis=-1), 1, 1e-5)
  np.testing.assert_allclose(mesh.vertices.mean(0), 0, atol=1e-5)


def test_file_axes_become_world_axes(tmp_path):
  path = fake_objects.write_obj(tmp_path / "t.obj", _TETRAHEDRON)
  # File x (4 long) is world y, file y (2) is world z, file z (1) is world x.
  extent = np.ptp(meshes.load(path).vertices, axis=0)
  np.testing.assert_allclose(extent / extent[0], [1, 4, 2], rtol=1e-5)


def test_rotation_comes_before_the_turn(tmp_path):
  path = fake_objects.write_obj(tmp_path / "t.obj", _TETRAHEDRON)
  quarter_around_x = (1.0, 0.0, 0.0, 0.0, 0.0, -1.0, 0.0, 1.0, 0.0)
  extent = np.ptp(meshes.load(path, rotation=quarter_around_x).vertices, axis=0)
  np.testing.assert_allclose(extent / extent[0], [1, 2, 0.5], rtol=1e-5)


def test_polygons_become_fans_that_keep_the_area(tmp_path):
  angles = np.arange(7) * 2 * np.pi / 7
  lines = [f"v {np.cos(a)} {np.sin(a)} 0" for a in angles]
  lines.append("f " + " ".join(str(i + 1) for i in range(7)))
  lines.append("f 1 2 3")
  mesh = meshes.load(
    fake_objects.write_obj(tmp_path / "p.obj", "\n".join(lines))
  )
  assert len(mesh.faces) == 6
  a, b, c = (mesh.vertices[mesh.faces[:, i]] for i in range(3))
  areas = 0.5 * np.linalg.norm(np.cross(b - a, c - a), axis=-1)
  heptagon = 3.5 * np.sin(2 * np.pi / 7)
  triangle = areas[np.isclose(areas, areas.min())][0]
  # The odd vertex count moves the box's centre: the scale is unknown.
  corner = 0.5 * (2 * np.sin(2 * np.pi / 7) - np.sin(4 * np.pi / 7))
  total = areas.sum() / triangle * corner
  np.testing.assert_allclose(total, heptagon + corner, rtol=1e-4)


def test_backward_indices_count_from_where_they_stand(tmp_path):
  text = "v 0 0 0\nv 1 0 0\nv 0 1 0\nvt 0 0\nf {}\n"
  text += "v 5 5 5\nvt 1 1\nf 1/1 2/2 4/1\n"
  found = [
    meshes.load(fake_objects.write_obj(tmp_path / name, text.format(face)))
    for name, face in (
      ("forward.obj", "1/1 2/1 3/1"),
      ("backward.obj", "-3/-1 -2/-1 -1/-1"),
    )
  ]
  forward, backward = (mesh.vertices[mesh.faces] for mesh in found)
  np.testing.assert_array_equal(forward, backward)


@pytest.mark.parametrize("written", ["Paint.PNG", "..\\tex\\paint.png"])
def test_textures_are_found_by_base_name_without_case(tmp_path, written):
  path = fake_objects.write_obj(
    tmp_path / "q.obj", _QUAD, f"newmtl m\nKd 1 0 0\nmap_Kd {written}"
  )
  Image.new("RGB", (4, 2), (0, 255, 0)).save(tmp_path / "paint.png")
  (part,) = meshes.load(path).parts
  assert part.texture is not None
  assert part.texture.shape == (2, 4, 4)
  assert (part.texture == [0, 255, 0, 255]).all()


def test_absent_texture_leaves_the_colour(tmp_path):
  path = fake_objects.write_obj(
    tmp_path / "q.obj", _QUAD, "newmtl m\nKd 1 0.5 0.2\nmap_Kd no.png"
  )
  (part,) = meshes.load(path).parts
  assert part.texture is None
  np.testing.assert_allclose(part.color, [1, 0.5, 0.2], atol=0.003)


def test_opacity_is_relative_to_the_most_solid_part(tmp_path):
  two = _QUAD + "usemtl n\nf 1/1 2/2 3/3\n"
  mtl = "newmtl m\nKd 1 1 1\nd 0.2\nnewmtl n\nKd 1 1 1\nTr {}\n"
  for transparency, expected in ((0.0, {0.2, 1.0}), (0.9, {1.0, 0.5})):
    path = fake_objects.write_obj(
      tmp_path / "q.obj", two, mtl.format(transparency)
    )
    opacities = {round(p.opacity, 6) for p in meshes.load(path).parts}
    assert opacities == expected


def test_fine_textures_are_averaged_down(tmp_path):
  path = fake_objects.write_obj(
    tmp_path / "q.obj", _QUAD, "newmtl m\nKd 1 1 1\nmap_Kd t.png"
  )
  checker = np.indices((256, 256)).sum(0) % 2 * 255
  Image.fromarray(checker.astype(np.uint8)).save(tmp_path / "t.png")
  # The quad's side is sqrt(2): 256 texels on it are 11 to a sample.
  (part,) = meshes.load(path, sample_size=0.0625).parts
  assert part.texture is not None
  assert part.texture.shape[0] in (23, 24)
  assert np.abs(part.texture[..., :3].astype(int) - 127).max() <= 15


def test_glb_has_linear_factors_and_node_transforms(tmp_path):
  box = trimesh.creation.box((1, 1, 1))
  gray = trimesh.visual.material.PBRMaterial(
    baseColorFactor=[55, 55, 55, 255], metallicFactor=0.0
  )
  box.visual = trimesh.visual.TextureVisuals(uv=np.zeros((8, 2)), material=gray)
  scene = trimesh.Scene()
  scene.add_geometry(box, transform=np.diag([3.0, 1, 1, 1]))
  path = tmp_path / "b.glb"
  scene.export(path)
  mesh = meshes.load(path)
  extent = np.ptp(mesh.vertices, axis=0)
  np.testing.assert_allclose(extent / extent[0], [1, 3, 1], rtol=1e-5)
  # sRGB of linear 55/255 is 0.50.
  np.testing.assert_allclose(mesh.parts[0].color, 0.5, atol=0.01)


def test_creases_keep_flat_normals_and_curves_smooth_ones(tmp_path):
  box = meshes.load(
    fake_objects.write_mesh(tmp_path / "b.obj", trimesh.creation.box())
  )
  assert np.isclose(np.abs(box.normals).max(-1), 1, atol=1e-5).all()
  ball = meshes.load(
    fake_objects.write_mesh(
      tmp_path / "s.obj", trimesh.creation.icosphere(subdivisions=3)
    )
  )
  np.testing.assert_allclose(ball.normals, ball.vertices[ball.faces], atol=0.02)


@pytest.mark.parametrize(
  "text",
  ["", "v 0 0 0\nv 1 0 0\n", "v 0 0 0\nv nan 0 0\nv 0 1 0\nf 1 2 3\n"],
)
def test_broken_files_are_value_errors(tmp_path, text):
  path = tmp_path / "broken.obj"
  path.write_text(text)
  with pytest.raises(ValueError, match="broken.obj"):
    meshes.load(path)
