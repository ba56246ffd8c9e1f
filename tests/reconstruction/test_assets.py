import dataclasses
import io
import json
import struct

import numpy as np
import planted
import pytest
import trimesh
from PIL import Image

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


def _binary(path, document, view):
  """The bytes of a buffer view, which follow the JSON part."""
  data = path.read_bytes()
  (size,) = struct.unpack("<I", data[12:16])
  start = 20 + size + 8
  view = document["bufferViews"][view]
  start += view.get("byteOffset", 0)
  return data[start : start + view["byteLength"]]


def test_the_texture_is_not_upside_down(tmp_path):
  """Bright above and dark below, in the file's own terms: v runs down."""
  given = planted.two_boxes()
  low, high = given.vertices[:, 2].min(), given.vertices[:, 2].max()
  above = (given.vertices[:, 2] - low) / (high - low)
  uv = np.stack([np.full_like(above, 0.5), 0.1 + 0.8 * above], -1)
  rows = np.linspace(250, 5, 50).astype(np.uint8)[:, None, None]
  asset = dataclasses.replace(
    given,
    uv=uv.astype(np.float32),
    texture=np.broadcast_to(rows, (50, 50, 3)).copy(),
  )
  path = tmp_path / "boxes.glb"
  assets.write_glb(path, asset)
  document = _document(path)
  attributes = document["meshes"][0]["primitives"][0]["attributes"]
  values = {}
  for name, width in (("POSITION", 3), ("TEXCOORD_0", 2)):
    accessor = document["accessors"][attributes[name]]
    data = _binary(path, document, accessor["bufferView"])
    found = np.frombuffer(data, "<f4", offset=accessor.get("byteOffset", 0))
    values[name] = found[: width * accessor["count"]].reshape(-1, width)
  picture = _binary(path, document, document["images"][0]["bufferView"])
  with Image.open(io.BytesIO(picture)) as opened:
    texture = np.asarray(opened.convert("L"), np.float32)
  shown = texture[(values["TEXCOORD_0"][:, 1] * 50).astype(int), 25]
  height = values["POSITION"][:, 1]
  height = (height - height.min()) / np.ptp(height)
  assert np.corrcoef(shown, height)[0, 1] > 0.99
  assert shown[height > 0.99].min() > 200 and shown[height < 0.01].max() < 60


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
