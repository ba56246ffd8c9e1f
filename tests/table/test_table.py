"""The table command with tiny models, a stand-in network and a stand-in field.

One real run draws the 2D row; views of another system, a ball, are the second.
"""

import dataclasses
import json
import sys
import types

import fake_assets
import fake_features
import numpy as np
import pytest
import reading
from PIL import Image

from configs import joint_mvdream_sd21, table1
from mvjax.commands import flags
from mvjax.evaluation import epipolar_matches, image_report, networks, refit
from mvjax.generation import joint
from mvjax.generation import request as requests
from mvjax.table import page, run
from mvjax.table import settings as tables
from mvjax.views import view_sets

PROMPTS = ("a red leather sofa", "A blue, wooden chair!", "a side view")
OTHER = "another system"


@pytest.fixture(scope="module")
def stand_ins():
  """A network, a field and SIFT whose figures can be worked out."""
  stand_in = fake_assets.StandInRefit()
  pictures = []

  def mean_colour(batch):
    pictures.append(len(batch))
    return batch.mean((1, 2))

  network = fake_features.network(mean_colour)
  with pytest.MonkeyPatch.context() as patch:
    patch.setitem(image_report.PACKAGED, "lite0", network)
    patch.setattr(refit, "of_field", lambda settings: stand_in.refit)
    patch.setattr(epipolar_matches, "tsed", lambda given: {"tsed": 0.4})
    yield types.SimpleNamespace(refit=stand_in, pictures=pictures)


@pytest.fixture(scope="module")
def home(tmp_path_factory):
  """Prompts, another system's views of two of them, and ground truth."""
  home = tmp_path_factory.mktemp("table")
  (home / "prompts.txt").write_text("# Seats\n" + "\n".join(PROMPTS))
  for name, count in (("other", 2), ("truth", 3)):
    for i in range(count):
      tint = 0.2 if name == "other" else 0.05
      signs = np.where(np.arange(4) % 2 == 0, 1, -1)
      ball = fake_assets.ball(4, size=16, colours=0.1 * i + tint * signs)
      slug = ("a_blue_wooden_chair", "a-red-leather-sofa", "a_vase")[i]
      fake_assets.write(home / name / slug, ball, opaque=True)
  return home


def make_config(home, model_folders, **changes):
  config = table1.get_config("runlocal")
  with config.unlocked():
    config.prompts = str(home / "prompts.txt")
    config.num_prompts = None
    config.own_processes = False
    config.sample.update(model_folders)
    config.rows = (
      dict(label="2D only", score="2d"),
      dict(label=OTHER, folder=str(home / "other")),
    )
    config.images.reference = str(home / "truth")
    config.consistency.floor = str(home / "truth")
    config.consistency.floor_assets = 3
    config.columns = ("KD-mean", "FID (clean)", "mvc", "tsed", "seconds")
    config.plots = (("mvc", "KD-mean"), ("mvc", "CLIP score"))
    config.update(changes)
  return config


@pytest.fixture(scope="module")
def finished(home, model_folders, stand_ins):
  content = run.evaluate(make_config(home, model_folders), home / "out")
  return types.SimpleNamespace(
    content=content, out=home / "out", fits=stand_ins.refit.fits
  )


def test_what_is_missing_is_drawn_and_scored(finished):
  rows = finished.content["rows"]
  assert list(rows) == ["2D only", OTHER, "ground truth"]
  assert [row["num_assets"] for row in rows.values()] == [3, 2, 3]
  assert [row["drawn"] for row in rows.values()] == [True, False, False]
  folders = (finished.out / "samples/2D only").iterdir()
  assert len([folder for folder in folders if folder.is_dir()]) == 3
  stored = json.loads((finished.out / "table.json").read_text())
  assert stored == finished.content
  # The figure of a ball that deviates by a tint, see test_consistency_report.
  mvc = {name: row["figures"]["mvc"]["value"] for name, row in rows.items()}
  assert mvc[OTHER] == pytest.approx(0.1, abs=0.01)
  assert mvc["ground truth"] == pytest.approx(0.025, abs=0.005)
  assert rows["2D only"]["figures"]["mvc"]["num_assets"] == 2
  # The reference measured against itself: 0, but for the estimator's bias.
  distance = rows["ground truth"]["figures"]["FD-mean"]["value"]
  assert distance == pytest.approx(0, abs=1e-6)
  assert "seconds" in rows["2D only"]["figures"]
  assert "seconds" not in rows[OTHER]["figures"]


def test_the_page_of_figures_says_what_it_rests_on(finished):
  text = (finished.out / "table.md").read_text()
  main, everything = text.split("## All figures")
  lines = [line for line in main.splitlines() if line.startswith("|")]
  cells = [[c.strip() for c in line.strip("|").split("|")] for line in lines]
  # No FID was measured, and SIFT fails on the truth itself.
  assert cells[0] == [
    "method", "assets", "views", "KD-mean ↓", "mvc ↓", "seconds ↓"
  ]  # fmt: skip
  other = next(row for row in cells if row[0] == OTHER)
  assert other[1:3] == ["2", "4"] and other[-1] == "-"
  drawn = next(row for row in cells if row[0] == "2D only")
  assert drawn[1] == "3" and "±" in drawn[3] and "(n=2)" in drawn[4]
  assert cells[-1][0] == "ground truth"
  assert "Tsed is left out: ground truth itself scores 0.40" in main
  assert f"{OTHER} lacks 1 of the prompts" in main.replace("Another", "another")
  assert "3 prompts of" in main and "seeds 0" in main
  assert "| mvc above floor ↓ |" in everything


def test_the_plot_shows_something(finished):
  plots = sorted(file.name for file in finished.out.glob("*.png"))
  assert plots == ["kd-mean-mvc.png"]  # there is no CLIP score
  with Image.open(finished.out / plots[0]) as picture:
    assert len(picture.convert("RGB").getcolors(2**24)) > 50


def test_the_page_shows_what_was_drawn(finished, home):
  text = (finished.out / "index.html").read_text()
  assert text.count("2D only, seed 0") >= 3
  # The table and its plot stand above the samples.
  page = reading.Page(finished.out / "index.html")
  heads = page.text("th")
  assert {"method", "2D only", OTHER, "ground truth"} <= set(heads)
  sources = [image["src"] for image in page.all("img")]
  assert sources[0] == "kd-mean-mvc.png"
  assert any("3 prompts of" in line for line in page.text("li"))
  # Other systems' samples have pages in copies.
  assert text.count(f"{OTHER}, seed 0") + text.count(f">{OTHER}<") >= 2
  copy = finished.out / "copies" / OTHER / "a-red-leather-sofa"
  assert (copy / "index.html").is_file() and (copy / "view_00.png").is_file()
  assert not list(home.glob("other/*/index.html"))
  page = finished.out / "samples/2D only/a-side-view-0/index.html"
  assert "a side view" in page.read_text()
  # Figures of the assets, to sort by.
  assert "mvc_psnr" in text


def test_a_finished_table_is_not_made_again(
  finished, home, model_folders, stand_ins, monkeypatch
):
  monkeypatch.delattr(joint, "build")
  stand_ins.pictures.clear()
  again = run.evaluate(make_config(home, model_folders), finished.out)
  assert again == finished.content
  assert stand_ins.refit.fits == finished.fits and not stand_ins.pictures


def test_an_interrupted_table_goes_on(
  finished, home, model_folders, stand_ins, monkeypatch, tmp_path
):
  real, fitted = stand_ins.refit.refit.fit, []

  def stop_at_third(given):
    fitted.append(real(given))
    if len(fitted) == 3:
      raise KeyboardInterrupt
    return fitted[-1]

  interrupted = refit.Refit(
    fit=stop_at_third,
    render=stand_ins.refit.refit.render,
    settings=stand_ins.refit.refit.settings,
  )
  rows = (dict(label=OTHER, folder=str(home / "other")),)
  config = make_config(home, model_folders, rows=rows)
  with monkeypatch.context() as patch:
    patch.setattr(refit, "of_field", lambda settings: interrupted)
    with pytest.raises(KeyboardInterrupt):
      run.evaluate(config, tmp_path)
  assert not (tmp_path / "table.json").exists()
  before = stand_ins.refit.fits
  stand_ins.pictures.clear()
  content = run.evaluate(config, tmp_path)
  # Two assets of the row and three of the truth; two were kept.
  assert stand_ins.refit.fits - before == 3 and not stand_ins.pictures
  for name in (OTHER, "ground truth"):
    figures = finished.content["rows"][name]["figures"]
    assert content["rows"][name]["figures"] == figures


def test_a_data_set_as_reference_adds_retrieval(
  home, model_folders, stand_ins, monkeypatch, tmp_path
):
  """Figures of both kinds of words arrive in the table's file."""
  names = ["sofa", "chair", *(f"thing {i}" for i in range(18))]
  records = [
    fake_features.record(name, i, color=(9 * i, 250 - 9 * i, 0), material=word)
    for i, name in enumerate(names)
    for word in ("leather", "wooden")
  ]
  fake_features.use(monkeypatch, records)
  monkeypatch.setattr(
    networks,
    "lite0",
    fake_features.network(lambda x: x.mean((1, 2)) + 1),
  )
  (tmp_path / "renders").mkdir()
  (tmp_path / "renders/dataset_info.json").write_text("{}")
  columns = tuple(
    f"{kind} R@{k} of {count}"
    for kind, count in (("retrieval", 20), ("material retrieval", 2))
    for k in (1, 5)
  )
  rows = (dict(label=OTHER, folder=str(home / "other")),)
  config = make_config(
    home, model_folders, rows=rows, columns=columns, plots=()
  )
  with config.unlocked():
    config.images.reference = str(tmp_path / "renders")
  content = run.evaluate(config, tmp_path / "out")
  figures = content["rows"][OTHER]["figures"]
  assert set(columns) <= set(figures)
  # Both prompts have a name and a material; two assets have no interval.
  assert {figures[name]["num_assets"] for name in columns} == {2}
  assert figures["material retrieval R@5 of 2"]["value"] == 1
  assert "material retrieval R@1 of 2 ↑" in (
    (tmp_path / "out/table.md").read_text()
  )


def test_errors_of_a_process_of_its_own_arrive(
  home, model_folders, tmp_path, capfd
):
  folder = tmp_path / "image/unet"
  folder.mkdir(parents=True)
  (folder / "config.json").write_text("{}")
  config = make_config(home, model_folders, own_processes=True)
  with config.unlocked():
    config.sample.image = str(tmp_path / "image")
  with pytest.raises((FileNotFoundError, ValueError), match="image"):
    run.evaluate(config, tmp_path / "out")
  capfd.readouterr()


@pytest.mark.parametrize(
  "changes, message",
  [
    ({"rows": ()}, "one or more"),
    ({"rows": (dict(label="a/b"),)}, "label='a/b' must be able"),
    ({"rows": (dict(label="ground truth"),)}, "is taken"),
    ({"rows": (dict(label="x", folder="y"),) * 2}, "all different"),
    ({"rows": (dict(label="x", folder="y", score="mv"),)}, "folder and score"),
    ({"rows": (dict(label="x", speed=1),)}, "sample.speed: no such setting"),
    ({"rows": (dict(label="x", steps="many"),)}, "steps='many': .* type int"),
    ({"rows": ("mix",)}, "rows: 'mix' must be dict"),
    ({"num_prompts": 4}, "num_prompts=4: the file has 3"),
    ({"seeds": ("a",)}, "seeds=.*whole numbers"),
    ({"prompts": "none.txt"}, "cannot read none.txt"),
  ],
  ids=str,
)
def test_wrong_records_are_named(home, model_folders, changes, message):
  config = make_config(home, model_folders, **changes)
  with pytest.raises(ValueError, match=message):
    tables.make_table(config, home / "out")


def nothing(folder):
  return str(folder / "nothing")


def one_picture(folder):
  fake_assets.write(folder / "single/ball", fake_assets.ball(4, size=8))
  return str(folder / "single")


@pytest.mark.parametrize(
  "field, make, message",
  [
    ("images.reference", nothing, "not a folder.*data fetch.*data build"),
    ("images.reference", one_picture, "holds 1 assets, two are needed; run"),
    ("images.inception", nothing, "nothing.*pytorch-fid, or none"),
    ("images.clip", nothing, "nothing.*transformers' layout"),
    ("consistency.floor", nothing, "not a folder.*data fetch.*data build"),
    ("num_prompts", lambda _: 1, "distances need two samples"),
    ("sample.views", lambda _: 2, "3 views or more, there are 2"),
    ("folds", lambda _: 5, "folds=5: 4 views"),
  ],
  ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_lacks_is_said_before_anything_is_drawn(
  home, model_folders, tmp_path, monkeypatch, field, make, message
):
  monkeypatch.setattr(run, "draw_missing", lambda *_: pytest.fail("drawn"))
  config = make_config(home, model_folders)
  value = make(tmp_path)
  with config.unlocked():
    config.consistency.metrics = ("mvc", "holdout")
    config.update_from_flattened_dict({field: value})
  name = field.rpartition(".")[2]
  with pytest.raises(ValueError, match=message) as caught:
    run.evaluate(config, tmp_path / "out")
  line = str(caught.value)
  assert f"{name}={value}" in line and "\n" not in line


def test_copies_keep_the_place_of_pictures(tmp_path):
  folder = tmp_path / "other/a-vase"
  fake_assets.write(folder, fake_assets.ball(4, size=8))
  fake_assets.rename_views(folder, "images/view_{:02d}.png".format)
  copies = tmp_path / "out/copies/other/a-vase"
  copies.mkdir(parents=True)
  (copies / "view_00.png").write_text("of an earlier run")
  row = {"failures": {}, "assets": {}}
  none = {"count": 1, "file": "prompts.txt"}
  reference = dict.fromkeys(("num_images", "num_assets", "source", "split"), "")
  page.write(
    tmp_path / "out",
    {"other": view_sets.open_set(tmp_path / "other")},
    methods={"other": row},
    content={
      "title": "a table",
      "columns": [],
      "rows": {},
      "prompts": none,
      "seeds": [0],
      "reference": reference | {"looks": []},
      "text": "",
      "masks": "",
      "notes": [],
      "hardware": "",
      "versions": {"mvjax": "", "jax": ""},
    },
    pictures=[],
  )
  shown = reading.Page(tmp_path / "out/copies/other/a-vase/index.html")
  files = [image["src"] for image in shown.all("img")]
  assert not (copies / "view_00.png").exists()
  assert {"images/view_00.png", "images/view_03.png"} <= set(files)
  assert all((copies / file).is_file() for file in files)


def test_an_empty_row_is_said_before_anything_is_drawn(
  home, model_folders, tmp_path, monkeypatch
):
  monkeypatch.setattr(run, "draw_missing", lambda *_: pytest.fail("drawn"))
  rows = (
    dict(label="2D only", score="2d"),
    dict(label=OTHER, folder=str(tmp_path / "none")),
  )
  config = make_config(home, model_folders, rows=rows)
  with pytest.raises(ValueError, match=f"{OTHER}: folder=.*none.*drop the row"):
    run.evaluate(config, tmp_path / "out")


def test_wrong_sections_and_folders_are_named(
  home, model_folders, tmp_path, stand_ins
):
  config = make_config(home, model_folders)
  with config.unlocked():
    config.images.networks = ("lite0",)
  with pytest.raises(ValueError, match="images.networks: no such.* packaged"):
    tables.make_table(config, home / "out")
  ball = fake_assets.ball(4, size=16)
  fake_assets.write(tmp_path / "other/a-teapot", ball)
  rows = (dict(label=OTHER, folder=str(tmp_path / "other")),)
  config = make_config(home, model_folders, rows=rows)
  with pytest.raises(ValueError, match="has none of the prompts"):
    run.evaluate(config, tmp_path / "out")


def test_a_config_of_sample_is_a_row_like_any_other(home, tmp_path):
  """As `sample` would draw it with the same config and flags."""
  sampled = joint_mvdream_sd21.get_config()
  models = {"multiview": "4view.pt", "image": "stable-diffusion-2-1-base"}
  config = table1.get_config()
  with config.unlocked():
    config.rows = (
      dict(label="ours", score="mix"),
      requests.fields_of(sampled) | models | {"label": "MVDream + SD"},
      dict(
        label="bridged",
        image_resolution="bridge",
        multiview_template="{prompt}, 3d asset",
        metric_cameras=False,
      ),
    )
  table = tables.make_table(config, tmp_path)
  ours, whole, bridged = (row.request for row in table.rows)
  drawn = requests.make_request(
    requests.fields_of(sampled),
    {
      **models,
      "prompts": config.prompts,
      "out": str(tmp_path / "samples/MVDream + SD"),
      "batch_size": config.sample.batch_size,
      "eta": config.sample.eta,
      "image_guidance": sampled.sample.image_guidance,
    },
  )
  assert whole == drawn
  assert (whole.image_resolution, whole.metric_cameras) == ("bridge", False)
  assert whole.multiview_template == "{prompt}, 3d asset"
  assert bridged == dataclasses.replace(
    ours,
    out=bridged.out,
    image_resolution="bridge",
    multiview_template="{prompt}, 3d asset",
    metric_cameras=False,
  )


def test_every_field_of_a_request_has_a_flag(monkeypatch):
  values = {
    "image_resolution": "bridge",
    "multiview_template": "{prompt}, 3d asset",
    "metric_cameras": False,
    "image_size": 64,
    "cameras": "rig.json",
  }
  arguments = [
    "--table=configs/table1.py",
    *(f"--table.sample.{name}={value}" for name, value in values.items()),
  ]
  monkeypatch.setattr(sys, "argv", ["launch.py", *arguments])
  config = flags.parse_config(arguments, "table")
  assert {name: config.sample[name] for name in values} == values
  known = {field.name for field in dataclasses.fields(requests.Request)}
  assert set(config.sample) == known - {"prompts", "seeds", "out"}


def test_the_shipped_record_is_a_table(tmp_path):
  table = tables.make_table(table1.get_config(), tmp_path)
  assert len(table.prompts) == 100
  assert [row.request.score for row in table.rows] == [
    "2d", "mv", "mix", "mix", "consistency"
  ]  # fmt: skip
  assert {row.request.views for row in table.rows} == {8}
  small = tables.make_table(table1.get_config("runlocal"), tmp_path)
  # The middles of both halves.
  assert small.prompts == (table.prompts[25], table.prompts[75])
  with pytest.raises(ValueError, match="expected runlocal"):
    table1.get_config("tiny")
