import io
import json
import struct

import numpy as np
import planted
import pytest
import trimesh

from data_pipeline import meshes
from mvjax.reconstruction import assets


@pytest.fixture(scope="module")
def glb(tmp_path_factory):
  path = tmp_path_factory.mktemp("glb") / "boxes.glb"
  assets.write_glb(path, planted.two_boxes())
  return path


def _document(path):
  """The JSON part of a GLB file, read by its definition."""
  data = path.read_bytes()
  magic, version, length = struct.unpack("<4sII", data[:12])
  assert (magic, version, length) == (b"glTF", 2, len(data))
  size, kind = struct.unpack("<I4s", data[12:20])
  assert kind == b"JSON"
  return json.loads(data[20 : 20 + size])


def test_glb_has_the_front_on_z_and_y_up(glb):
  """The red box sits on top, towards the front (world +x)."""
  scene = trimesh.load_scene(glb, process=False)
  (surface,) = scene.geometry.values()
  asset = planted.two_boxes()
  np.testing.assert_allclose(
    surface.vertices, asset.vertices[:, [1, 2, 0]], atol=1e-6
  )
  red = surface.visual.uv[:, 0] < 0.5
  assert surface.vertices[red, 1].max() == pytest.approx(0.5)
  assert surface.vertices[red].mean(0)[2] == pytest.approx(0.2, abs=1e-5)
  assert surface.volume > 0
  texture = np.asarray(surface.visual.material.baseColorTexture.convert("RGB"))
  np.testing.assert_array_equal(texture, asset.texture)


def test_glb_enters_the_world_as_it_left_it(glb):
  """Read back by the reader of training objects (it centres and scales)."""
  again, asset = meshes.load(glb), planted.two_boxes()
  centred = asset.vertices - (asset.vertices.min(0) + asset.vertices.max(0)) / 2
  scale = np.linalg.norm(centred, axis=-1).max()
  np.testing.assert_allclose(
    np.ptp(again.vertices, 0) / np.ptp(centred, 0), 1 / scale, rtol=0.05
  )
  order = np.argsort(again.vertices[:, 2])
  assert again.vertices[order[-4:], 0].mean() > 0.05


def test_glb_keeps_what_validators_check(glb):
  document = _document(glb)
  (primitive,) = document["meshes"][0]["primitives"]
  attributes = primitive["attributes"]
  accessors = document["accessors"]
  counts = {accessors[attributes[k]]["count"] for k in attributes}
  assert set(attributes) == {"POSITION", "NORMAL", "TEXCOORD_0"}
  assert len(counts) == 1
  position = accessors[attributes["POSITION"]]
  vertices = planted.two_boxes().vertices[:, [1, 2, 0]]
  np.testing.assert_allclose(position["min"], vertices.min(0), atol=1e-6)
  np.testing.assert_allclose(position["max"], vertices.max(0), atol=1e-6)
  material = document["materials"][primitive["material"]]
  rough = material["pbrMetallicRoughness"]
  assert rough["metallicFactor"] == 0
  assert "baseColorTexture" in rough
  (image,) = document["images"]
  assert image["mimeType"] == "image/png"
  scene = trimesh.load_scene(io.BytesIO(glb.read_bytes()), file_type="glb")
  (surface,) = scene.geometry.values()
  np.testing.assert_allclose(
    np.linalg.norm(surface.vertex_normals, axis=-1), 1, atol=1e-5
  )


def test_ply_keeps_the_world_and_the_colours(tmp_path):
  asset = planted.two_boxes()
  surface = trimesh.Trimesh(asset.vertices, asset.faces, process=False)
  colours = assets.vertex_colours(asset, surface)
  path = tmp_path / "boxes.ply"
  assets.write_ply(path, surface, colours)
  again = trimesh.load_mesh(path, process=False)
  np.testing.assert_allclose(again.vertices, asset.vertices, atol=1e-6)
  red = again.vertices[:, 2] > 0.01
  np.testing.assert_array_equal(
    again.visual.vertex_colors[red, :3], np.tile(planted.RED, (red.sum(), 1))
  )


def test_pictures_show_the_texture_on_white():
  image = assets.render(planted.two_boxes(), planted.orbits(2), size=40)
  assert image.shape == (2, 40, 40, 3)
  flat = image.reshape(-1, 3)
  for colour in (planted.RED, planted.BLUE, (255, 255, 255)):
    assert (flat == colour).all(-1).sum() > 50
  assert (image[:, 0] == 255).all()
