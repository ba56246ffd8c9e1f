"""The command with a refit whose figures are known (see test_refit)."""

import json

import fake_assets
import numpy as np
import pytest

from mvjax import view_sets
from mvjax.evaluation import consistency_report as lib
from mvjax.evaluation import epipolar_matches, refit

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
  (folders / "bad/ball-1/transforms.json").unlink()
  with pytest.raises(ValueError, match="bad, ball-1: .*transforms.json"):
    run(folders)
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
