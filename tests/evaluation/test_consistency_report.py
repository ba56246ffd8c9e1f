"""The command with a refit whose figures are known (see test_refit)."""

import dataclasses
import json
import re

import fake_assets
import numpy as np
import pytest
from PIL import Image

from mvjax.evaluation import consistency_report as lib
from mvjax.evaluation import epipolar_matches, refit
from mvjax.reconstruction import cameras, field
from mvjax.views import view_sets

COUNT = 8


def write_set(folder, tint, *, count=3, views=COUNT, opaque=False):
  """Balls whose views deviate by +-tint from grey levels of their own."""
  signs = np.where(np.arange(views) % 2 == 0, 1, -1)
  for i in range(count):
    colours = -0.3 + 0.1 * i + tint * signs
    given = fake_assets.ball(views, size=24, colours=colours)
    fake_assets.write(
      folder / f"ball-{i}", given, prompt=f"ball {i}", opaque=opaque
    )


@pytest.fixture
def folders(tmp_path):
  write_set(tmp_path / "good", 0.1)
  write_set(tmp_path / "bad", 0.3)
  write_set(tmp_path / "truth", 0.02, count=4)
  return tmp_path


def run(folders, names=("good", "bad"), *, tools=None, floor=True, **settings):
  return lib.evaluate(
    {name: view_sets.open_set(folders / name) for name in names},
    lib.Settings(
      **{"metrics": ("mvc",)} | settings,
      floor=str(folders / "truth") if floor else None,
    ),
    tools=tools or lib.Tools(refit=fake_assets.StandInRefit().refit),
    out=folders / "out",
  )


def value(report, label, name):
  return report["methods"][label]["figures"][name]["value"]


def test_figures_and_their_floor(folders):
  report = run(folders)
  assert json.loads((folders / "out/consistency.json").read_text()) == report
  assert value(report, "good", "mvc") == pytest.approx(0.05, abs=0.003)
  assert value(report, "bad", "mvc") == pytest.approx(0.15, abs=0.003)
  assert value(report, lib.FLOOR, "mvc") == pytest.approx(0.01, abs=0.003)
  above = value(report, "bad", "mvc above floor")
  floor = value(report, lib.FLOOR, "mvc")
  assert above == pytest.approx(value(report, "bad", "mvc") - floor)
  bad, truth, difference = (
    report["methods"][label]["figures"][name]
    for label, name in (
      ("bad", "mvc"),
      (lib.FLOOR, "mvc"),
      ("bad", "mvc above floor"),
    )
  )
  reach = [f["high"] - f["value"] for f in (bad, truth, difference)]
  assert reach[2] ** 2 == pytest.approx(reach[0] ** 2 + reach[1] ** 2)
  # Neighbours differ by twice the tint.
  assert value(report, "bad", "warp_error") == pytest.approx(0.3, abs=0.01)
  assert report["methods"]["bad"]["num_assets"] == 3
  assert report["methods"][lib.FLOOR]["num_assets"] == 4
  assets = report["methods"]["bad"]["assets"]
  assert list(assets) == ["ball-0", "ball-1", "ball-2"]
  mean = np.mean([figures["mvc"] for figures in assets.values()])
  assert mean == pytest.approx(value(report, "bad", "mvc"))
  assert report["notes"] == [] and report["masks"] == "true alpha"
  table = lib.format_report(report)
  assert "ground truth" in table and "mvc above floor ↓" in table


def spoil(folder, number, *, camera=False):
  """A view that shows nothing, or one from quite another place."""
  picture = folder / f"view_{number:02d}.png"
  if camera:
    content = json.loads((folder / "transforms.json").read_text())
    pose = np.array(content["frames"][number]["transform_matrix"])
    pose[:3, 3] += 2 * pose[:3, 0]
    content["frames"][number]["transform_matrix"] = pose.tolist()
    (folder / "transforms.json").write_text(json.dumps(content))
  else:
    Image.new("RGB", (24, 24), "white").save(picture)


def another_size(file):
  Image.new("RGB", (9, 9)).save(file)


def truncated(file):
  file.write_bytes(file.read_bytes()[:-40])


def no_picture(file):
  file.write_bytes(b"a page that says 404")


@pytest.mark.parametrize(
  "damage, reason",
  [
    (another_size, "different sizes"),
    (truncated, r"view_03\.png: damaged picture"),
    (no_picture, r"view_03\.png: damaged picture"),
  ],
)
def test_one_bad_asset_stops_nothing(folders, damage, reason):
  write_set(folders / "mixed", 0.1, opaque=True)
  damage(folders / "mixed/ball-1/view_03.png")
  for _ in range(2):  # What is kept says it again.
    report = run(folders, ("good", "mixed"))
    method = report["methods"]["mixed"]
    assert method["figures"]["mvc"]["num_assets"] == 2
    failed = method["failures"]["mvc"]
    assert failed["of"] == 3 and list(failed["reasons"]) == ["ball-1"]
    assert re.search(reason, failed["reasons"]["ball-1"])
    (note,) = report["notes"]
    assert note.startswith("mvc: 1 of 3 assets of mixed failed; ball-1: ")
    assert note in lib.format_report(report)
  assert not report["methods"]["good"]["failures"]


def test_a_failure_makes_no_mean_better(folders):
  """A field of the project's own: masks without a common point, blank views."""
  tools = lib.Tools(
    refit=refit.of_field(field.Settings(grid=16, samples=8, rays=256, steps=40))
  )
  write_set(folders / "sound", 0.1, views=4, opaque=True)
  write_set(folders / "apart", 0.1, views=4, opaque=True)
  write_set(folders / "blank", 0.1, views=4, opaque=True)
  for number in range(2):
    spoil(folders / "apart/ball-0", number, camera=True)
  spoil(folders / "apart/ball-1", 2)
  for number in range(4):
    spoil(folders / "blank/ball-0", number)
  report = run(folders, ("sound", "apart", "blank"), tools=tools, floor=False)
  figures = {
    label: [row["mvc"] for row in method["assets"].values()]
    for label, method in report["methods"].items()
  }
  assert figures["apart"][0] > 2 * figures["sound"][0]
  assert figures["apart"][1] > figures["sound"][1]
  assert figures["blank"][0] == 1
  assert figures["blank"][1:] == figures["sound"][1:]
  failed = report["methods"]["apart"]["failures"]["mvc"]
  assert list(failed["reasons"]) == ["ball-0", "ball-1"]
  assert "no point in common" in failed["reasons"]["ball-0"]
  # Only what needs a surface is left out.
  assert report["methods"]["apart"]["figures"]["warp_error"]["num_assets"] == 1


def test_floors_are_like_the_rows(folders):
  """A row of four views and one of larger ones get floors of their own."""
  write_set(folders / "four", 0.1, views=4)
  write_set(folders / "truth-4", 0.06, views=4)
  for path in sorted((folders / "truth-4").iterdir()):
    path.rename(folders / "truth" / f"four-{path.name}")
  large = fake_assets.ball(8, size=32, colours=np.full(8, 0.1), elevation=30.0)
  fake_assets.write(folders / "large/ball", large)
  report = run(folders, ("good", "four", "large"))
  kinds = {label: m["kinds"] for label, m in report["methods"].items()}
  assert kinds["ground truth, 4 views, 24 px"] == ["4 views, 24 px"]
  assert kinds["ground truth, 8 views, 24 px"] == kinds["good"]
  assert len(kinds) == 5
  for views, label in ((4, "four"), (8, "good")):
    floor = value(report, f"{lib.FLOOR}, {views} views, 24 px", "mvc")
    above = value(report, label, "mvc above floor")
    assert above == pytest.approx(value(report, label, "mvc") - floor)
  assert "mvc above floor" not in report["methods"]["large"]["figures"]
  note = next(note for note in report["notes"] if note.startswith("large"))
  assert "8 views, 32 px" in note and "4 views, 24 px" in note
  text = lib.format_report(report)
  assert "large 30" in text and "ground truth, 4 views, 24 px 0" in text


def test_one_opaque_asset_makes_masks_found_for_all(folders):
  write_set(folders / "late", 0.1, count=1, opaque=True)
  (folders / "late/ball-0").rename(folders / "good/zz-opaque")
  assert run(folders)["masks"] == "found from the background"


def test_nominal_lenses_are_searched_once(folders, monkeypatch):
  searched = []

  def search(masks, camera):
    searched.append(masks.shape)
    return cameras.Found(
      camera=camera,
      field_of_view=fake_assets.FOV,
      near_best=(30.0, 55.0),
      distance=3.0,
      agreement={},
    )

  monkeypatch.setattr(cameras, "search", search)
  given = fake_assets.ball(COUNT, size=24, colours=np.full(COUNT, 0.1))
  for i in range(2):
    fake_assets.write(
      folders / f"nominal/ball-{i}",
      given,
      prompt=f"ball {i}",
      record={"metric_cameras": False},
    )
  seen = []
  stand_in = fake_assets.StandInRefit()

  def fit(views):
    seen.append(np.linalg.norm(views.camera.camera_to_world[0, :3, 3]))
    return stand_in.refit.fit(views)

  tools = lib.Tools(refit=dataclasses.replace(stand_in.refit, fit=fit))
  for _ in range(2):
    report = run(folders, ("nominal",), tools=tools, floor=False)
  assert searched == [(COUNT, 24, 24)] * 2
  # The unit ball fills the image at the distance that goes with the lens.
  half = np.radians(fake_assets.FOV / 2)
  np.testing.assert_allclose(seen, [1 / np.sin(half)] * 2, rtol=1e-3)
  (note,) = [note for note in report["notes"] if "nominal" in note]
  assert "40 degrees, as good from 30 to 55" in note


def test_a_lens_that_is_not_found_is_reported(folders):
  """Seven of eight views are blank: one outline tells no lens."""
  given = fake_assets.ball(COUNT, size=24, colours=np.full(COUNT, 0.1))
  fake_assets.write(
    folders / "nominal/ball",
    given,
    prompt="ball",
    record={"metric_cameras": False},
    opaque=True,
  )
  for number in range(1, COUNT):
    spoil(folders / "nominal/ball", number)
  report = run(folders, ("nominal",), floor=False)
  note = "cameras: 1 of 1 assets of nominal failed; ball: field of view not"
  assert any(line.startswith(note) for line in report["notes"])


def test_kept_figures_are_of_one_version(folders, monkeypatch):
  stand_in = fake_assets.StandInRefit()
  tools = lib.Tools(refit=stand_in.refit)
  run(folders, ("good",), tools=tools, floor=False)
  monkeypatch.setattr(lib, "_VERSION", -1)
  run(folders, ("good",), tools=tools, floor=False)
  assert stand_in.fits == 6
  before = refit.of_field().settings
  monkeypatch.setattr(field, "VERSION", -1)
  assert refit.of_field().settings != before


def test_interrupted_runs_go_on(folders):
  stand_in = fake_assets.StandInRefit()
  stops = []

  def fit(given):
    if len(stops) == 2:
      raise KeyboardInterrupt
    stops.append(1)
    return stand_in.refit.fit(given)

  broken = refit.Refit(
    fit=fit, render=stand_in.refit.render, settings=stand_in.refit.settings
  )
  with pytest.raises(KeyboardInterrupt):
    run(folders, tools=lib.Tools(refit=broken))
  report = run(folders, tools=lib.Tools(refit=stand_in.refit))
  # Three assets of two methods and four of the floor, each once.
  assert stand_in.fits == 10
  again = run(folders, tools=lib.Tools(refit=stand_in.refit))
  assert stand_in.fits == 10 and again == report
  other = refit.Refit(
    fit=stand_in.refit.fit, render=stand_in.refit.render, settings=[2]
  )
  run(folders, tools=lib.Tools(refit=other))
  assert stand_in.fits == 20


def test_opaque_pictures_make_masks_found_for_all(folders):
  write_set(folders / "opaque", 0.1, opaque=True)
  report = run(folders, ("good", "opaque"))
  assert report["masks"] == "found from the background"
  assert value(report, "opaque", "mvc") == value(report, "good", "mvc")


def test_hold_out_runs_on_a_subset(folders):
  stand_in = fake_assets.StandInRefit()
  report = run(
    folders,
    ("good",),
    tools=lib.Tools(refit=stand_in.refit, folds=4),
    metrics=("holdout", "halves"),
    holdout_limit=2,
    floor=False,
  )
  figures = report["methods"]["good"]["figures"]
  assert figures["holdout"]["num_assets"] == 2
  assert figures["halves_psnr"]["num_assets"] == 3
  assert stand_in.fits == 2 * 4 + 3 * 2
  assert "no floor" in report["notes"][0]
  assert "(n=2)" in lib.format_report(report)


def test_tsed_is_left_out_where_the_truth_fails(folders, monkeypatch):
  def fake_tsed(given):
    return {"tsed": 0.4, "tsed_matches": 3.0}

  monkeypatch.setattr(epipolar_matches, "tsed", fake_tsed)
  report = run(folders, metrics=("tsed",))
  assert report["methods"]["good"]["figures"]["tsed"] is None
  for figures in report["methods"]["good"]["assets"].values():
    assert list(figures) == ["tsed_matches"]
  assert "tsed is left out" in report["notes"][0]
  without = run(folders, metrics=("tsed",), floor=False)
  assert value(without, "good", "tsed") == pytest.approx(0.4)


def test_few_views_are_remarked(folders):
  write_set(folders / "four", 0.1, views=4)
  report = run(folders, ("four",), floor=False)
  assert any("4 views" in note for note in report["notes"])


def test_faults_are_named(folders):
  with pytest.raises(ValueError, match="metrics='mvc,met3r'.*holdout"):
    lib.Settings(metrics=("mvc", "met3r"))
  for name in ("limit", "holdout_limit", "floor_assets"):
    with pytest.raises(ValueError, match=f"^{name}=0: must be 1 or more"):
      lib.Settings(**{name: 0})
  (folders / "bad/ball-1/transforms.json").unlink()
  with pytest.raises(ValueError, match="bad, ball-1: .*transforms.json"):
    run(folders)
  with pytest.raises(ValueError, match="good, ball-0: folds=9: 8 views"):
    run(
      folders,
      ("good",),
      metrics=("holdout",),
      tools=lib.Tools(refit=fake_assets.StandInRefit().refit, folds=9),
    )
  write_set(folders / "pair", 0.1, views=2)
  with pytest.raises(ValueError, match="3 views or more, there are 2"):
    run(folders, ("pair",))
  with pytest.raises(ValueError, match="label 'ground truth'"):
    lib.evaluate(
      {lib.FLOOR: view_sets.open_set(folders / "good")},
      lib.Settings(),
      tools=lib.Tools(refit=fake_assets.StandInRefit().refit),
      out=folders,
    )
