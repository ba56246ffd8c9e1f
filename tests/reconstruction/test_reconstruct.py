import dataclasses
import json
import re
import types

import numpy as np
import planted
import pytest
from PIL import Image

from mvjax.reconstruction import asset_folder, field, mesh, run
from mvjax.views import viewpoints

_SETTINGS = run.Settings(
  fit=planted.SMALL,
  surface=mesh.Settings(max_faces=1500),
  texture_size=96,
)


def _write(folder, *, blank=None, number=4):
  """Views of the boxes in the layout of `sample`."""
  camera = planted.orbits(number, elevations=(0.3,))
  views = planted.views(planted.two_boxes(), camera)
  folder.mkdir(parents=True)
  for i, image in enumerate(views.image):
    pixels = np.rint((image + 1) * 127.5).astype(np.uint8)
    if i == blank:
      pixels[:] = 255
    Image.fromarray(pixels).save(folder / f"view_{i:02d}.png")
  transforms = json.dumps(viewpoints.transforms(camera, 48))
  (folder / "transforms.json").write_text(transforms)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
  folder = tmp_path_factory.mktemp("samples") / "boxes"
  _write(folder)
  (made,) = run.reconstruct(folder, settings=_SETTINGS)
  return made


def test_a_sample_becomes_an_asset_beside_its_views(finished):
  assert (finished / "view_00.png").exists()
  names = {path.name for path in finished.iterdir()}
  assert names >= {
    "asset.glb",
    "asset.ply",
    "asset_turntable.gif",
    "reconstruction.json",
  }
  assert not any(name.startswith(".") for name in names)
  record = json.loads((finished / "reconstruction.json").read_text())
  assert record["psnr_input_views"] > 18
  assert record["num_views"] == 4
  assert record["made_of"]["fit.grid"] == 32
  with Image.open(finished / "asset_turntable.gif") as turn:
    assert turn.n_frames == 24
    assert turn.size == (48, 48)


def test_the_record_says_what_four_views_leave_open(finished):
  record = json.loads((finished / "reconstruction.json").read_text())
  open_ = record["undetermined"]
  shares = [v for k, v in open_.items() if k.startswith("surface_")]
  assert sum(shares) == pytest.approx(1, abs=1e-4)
  assert open_["surface_seen_by_none"] > 0.1  # The underside.
  assert "4 views fix outlines, not dents" in open_["note"]


def test_many_views_leave_little_open():
  """32 views, the most that is promised, on a coarse grid in a few steps."""
  views = planted.views(
    planted.two_boxes(), planted.orbits(32, elevations=(0.1, 0.5, -0.5, 0.9))
  )
  coarse = dataclasses.replace(planted.SMALL, grid=24, steps=60)
  result = run.make(views, dataclasses.replace(_SETTINGS, fit=coarse))
  assert result.record["num_views"] == 32
  assert result.record["psnr_input_views"] > 17
  open_ = result.record["undetermined"]
  # Cameras below show the underside, too.
  assert open_["surface_seen_by_none"] < 0.05
  assert "outlines, not dents" not in open_["note"]
  size = np.ptp(result.asset.vertices, axis=0)
  np.testing.assert_allclose(size, [0.9, 0.8, 0.9], atol=0.15)


def test_finished_assets_are_kept_and_others_made(
  finished, monkeypatch, capsys
):
  before = (finished / "asset.glb").stat().st_mtime_ns
  made = []
  monkeypatch.setattr(run, "make", lambda *a: made.append(a))
  assert run.reconstruct(finished, settings=_SETTINGS) == [finished]
  assert not made
  assert (finished / "asset.glb").stat().st_mtime_ns == before
  assert "1 were there before" in capsys.readouterr().out


def test_other_settings_are_an_error_that_names_them(finished):
  other = dataclasses.replace(_SETTINGS, texture_size=64)
  with pytest.raises(ValueError, match="texture_size=96, asked for is 64"):
    run.reconstruct(finished, settings=other)


@pytest.mark.parametrize(
  "make, message",
  [
    (lambda: mesh.Settings(max_faces=0), "max_faces=0: "),
    (lambda: mesh.Settings(max_faces=10**9), "max_faces=1000000000: "),
    (lambda: field.Settings(grid=7), "grid=7: must be an even"),
    (lambda: field.Settings(grid=4096), "grid=4096: must be an even .* to 256"),
    (lambda: run.Settings(texture_size=10**6), "texture_size=1000000: "),
    (lambda: mesh.Settings(blur=-1.0), r"blur=-1\.0: "),
    (lambda: mesh.Settings(smoothing=-1), "smoothing=-1: "),
    (lambda: run.Settings(texture_size=0), "texture_size=0: "),
  ],
)
def test_wrong_settings_are_named(make, message):
  with pytest.raises(ValueError, match=message):
    make()


def test_the_first_of_each_kind_compiles(tmp_path, monkeypatch):
  """Kinds differ in number of views, size, or whether the lens is searched."""
  kinds = {"a": 4, "b": 4, "c": 5, "d": 5, "e": 4}
  for name, number in kinds.items():
    _write(tmp_path / name, number=number)
  (tmp_path / "e/sample.json").write_text('{"metric_cameras": false}')

  def make(views, settings):
    number, size = views.image.shape[:2]
    record = {"num_views": number, "image_size": size}
    return types.SimpleNamespace(record=record)

  saved = {}

  def save(folder, result, record):
    saved[folder.name] = record["includes_compilation"]

  monkeypatch.setattr(run, "make", make)
  monkeypatch.setattr(run, "save", save)
  run.reconstruct(tmp_path, settings=_SETTINGS)
  assert saved == {"a": True, "b": False, "c": True, "d": False, "e": True}


def test_an_asset_that_fails_does_not_stop_the_others(tmp_path):
  _write(tmp_path / "views" / "a-blank", blank=2)
  _write(tmp_path / "views" / "b-good")
  out = tmp_path / "out"
  with pytest.raises(
    ValueError, match="1 of 2 failed; a-blank: view 2 shows nothing"
  ):
    run.reconstruct(tmp_path / "views", out=out, settings=_SETTINGS)
  assert (out / "b-good" / "reconstruction.json").exists()
  assert not (out / "a-blank").exists()


def test_input_that_cannot_be_used_is_named(tmp_path):
  with pytest.raises(FileNotFoundError, match="nowhere"):
    run.reconstruct(tmp_path / "nowhere", settings=_SETTINGS)
  _write(tmp_path / "few", number=3)
  with pytest.raises(ValueError, match="3 views: reconstruction needs 4"):
    run.reconstruct(tmp_path / "few", settings=_SETTINGS)
  _write(tmp_path / "lost" / "x")
  (tmp_path / "lost" / "x" / "transforms.json").unlink()
  with pytest.raises(ValueError, match="no transforms.json"):
    run.reconstruct(tmp_path / "lost", settings=_SETTINGS)


def test_an_interrupted_write_leaves_no_record(tmp_path):
  def broken(path):
    raise KeyboardInterrupt

  with pytest.raises(KeyboardInterrupt):
    asset_folder.write(
      tmp_path,
      writers={"a": lambda p: p.write_text("a"), "b": broken},
      record={"made_of": {"x": 1}},
    )
  assert not asset_folder.is_finished(tmp_path, {"x": 1})
  assert not (tmp_path / "a").exists()
  asset_folder.write(
    tmp_path,
    writers={"a": lambda p: p.write_text("a")},
    record={"made_of": {"x": 1}},
  )
  assert asset_folder.is_finished(tmp_path, {"x": 1})
  assert [path.name for path in sorted(tmp_path.iterdir())] == [
    "a",
    "reconstruction.json",
  ]


def test_nominal_cameras_are_searched_and_the_range_said(
  tmp_path, monkeypatch, capsys
):
  for name, metric in (("a-nominal", False), ("b-metric", True)):
    _write(tmp_path / name)
    record = json.dumps({"prompt": name, "metric_cameras": metric})
    (tmp_path / name / "sample.json").write_text(record)
  run.reconstruct(tmp_path, settings=_SETTINGS)
  records = [
    json.loads((tmp_path / name / "reconstruction.json").read_text())
    for name in ("a-nominal", "b-metric")
  ]
  assert "cameras_found" not in records[1]
  low, high = records[0]["cameras_found"]["near_best"]
  assert low < 40 < high
  said = capsys.readouterr()
  line = f"a-nominal: field of view .* degrees; {low:.0f} to {high:.0f} explain"
  assert re.search(line, said.out + said.err)
  # They are kept, and belong to this version of the program only.
  monkeypatch.setattr(run, "make", None)
  run.reconstruct(tmp_path, settings=_SETTINGS)
  believed = dataclasses.replace(_SETTINGS, search_cameras=False)
  with pytest.raises(ValueError, match="search_cameras=True, asked.*False"):
    run.reconstruct(tmp_path, settings=believed)
  monkeypatch.setattr(field, "VERSION", -1)
  with pytest.raises(ValueError, match="made with version="):
    run.reconstruct(tmp_path, settings=_SETTINGS)


def test_the_camera_search_is_recorded():
  camera = planted.orbits(8, field_of_view=30.0, distance=3.5)
  views = planted.views(planted.two_boxes(), camera)
  told = dataclasses.replace(views, camera=planted.orbits(8))
  settings = dataclasses.replace(_SETTINGS, search_cameras=True)
  result = run.make(told, settings)
  found = result.record["cameras_found"]
  assert found["field_of_view"] == pytest.approx(30, abs=6)
  assert set(found["agreement"]) > {"30", "40"}
  shown = field.render(result.field, result.camera, 48)
  assert ((shown.alpha > 0.5) == (views.alpha > 0.5)).mean() > 0.95


def test_the_turntable_goes_between_the_given_views():
  given = planted.orbits(4)
  turn = run.turntable(given)
  position = turn.camera_to_world[:, :3, 3]
  azimuth = np.arctan2(position[:, 1], position[:, 0])
  known = np.arctan2(*given.camera_to_world[:, [1, 0], 3].T)
  apart = np.abs(np.exp(1j * azimuth[:, None]) - np.exp(1j * known))
  assert apart.min() > 0.1
  np.testing.assert_allclose(np.linalg.norm(position, axis=-1), 3, rtol=1e-5)
