"""Sample folders: names, completeness, pictures."""

import json

import numpy as np
import pytest
from PIL import Image

from mvjax import records
from mvjax.generation import figure, samples
from mvjax.views import viewpoints

SETTINGS = {"score": "mix", "weights_sha256": {"image": "abc"}}


def views(count, size=8):
  """Views whose colours tell them apart."""
  images = np.zeros((count, size, size, 3), np.uint8)
  images[..., 0] = 20 * np.arange(count)[:, None, None]
  return images


def write(out, prompt="a sofa", seed=0, count=2, settings=SETTINGS):
  camera = viewpoints.orbit(
    count, azimuth=0.0, elevation=0.0, distance=3.0, field_of_view=40.0
  )
  return samples.write(
    out,
    samples.Sample(prompt=prompt, seed=seed),
    images=views(count),
    camera=camera,
    record={"settings": settings},
  )


def name(prompt, seed=0):
  return samples.Sample(prompt=prompt, seed=seed).name


def test_names_are_readable_and_different():
  assert name("a red leather sofa", 3) == "a-red-leather-sofa-3"
  prompts = ["a sofa", "A sofa", "a sofa!", "椅子", "桌子", "a " * 99 + "sofa"]
  names = [name(prompt) for prompt in prompts]
  assert len(set(names)) == len(prompts)
  assert all(len(n) < 80 and n.isascii() for n in names)


def test_a_sample_folder_is_complete(tmp_path):
  folder = write(tmp_path, count=6)
  assert {path.name for path in folder.iterdir()} == {
    *(f"view_{i:02d}.png" for i in range(6)),
    "grid.png",
    "turntable.gif",
    "transforms.json",
    "sample.json",
  }
  with Image.open(folder / "view_03.png") as image:
    np.testing.assert_array_equal(np.asarray(image), views(6)[3])
  with Image.open(folder / "turntable.gif") as turntable:
    assert turntable.n_frames == 6
  record = json.loads((folder / "sample.json").read_text())
  assert (record["prompt"], record["seed"]) == ("a sofa", 0)
  frames = json.loads((folder / "transforms.json").read_text())["frames"]
  assert all((folder / frame["file_path"]).is_file() for frame in frames)


def test_few_views_make_no_turntable(tmp_path):
  assert not (write(tmp_path, count=5) / "turntable.gif").exists()


def test_finished_samples_are_known(tmp_path):
  sample = samples.Sample(prompt="a sofa", seed=0)
  assert not samples.is_finished(tmp_path, sample, settings=SETTINGS)
  write(tmp_path)
  assert samples.is_finished(tmp_path, sample, settings=SETTINGS)


def test_other_settings_are_an_error(tmp_path):
  write(tmp_path)
  sample = samples.Sample(prompt="a sofa", seed=0)
  with pytest.raises(ValueError, match="made with score='mix', asked .* '2d'"):
    samples.is_finished(tmp_path, sample, settings=SETTINGS | {"score": "2d"})


def test_a_foreign_folder_is_an_error(tmp_path):
  sample = samples.Sample(prompt="a sofa", seed=0)
  (tmp_path / sample.name).mkdir()
  with pytest.raises(ValueError, match="a-sofa-0 has no sample.json"):
    samples.is_finished(tmp_path, sample, settings=SETTINGS)


def test_an_interrupted_write_leaves_no_sample(tmp_path, monkeypatch):
  def interrupt(*arguments):
    raise KeyboardInterrupt

  with monkeypatch.context() as patch:
    patch.setattr(records, "write", interrupt)
    with pytest.raises(KeyboardInterrupt):
      write(tmp_path)
  assert not (tmp_path / name("a sofa")).exists()
  write(tmp_path)
  assert [path.name for path in tmp_path.iterdir()] == ["a-sofa-0"]


def test_grid_fills_rows():
  tiles = samples.grid(views(6), columns=4)
  assert tiles.shape == (16, 32, 3)
  assert (tiles[0, 24, 0], tiles[8, 0, 0], tiles[8, 8, 0]) == (60, 80, 100)
  assert (tiles[8:, 16:] == 255).all()


def test_figure_shows_what_all_runs_have(tmp_path):
  for run, prompts in {"mv": ["a sofa", "a bed"], "mix": ["a sofa"]}.items():
    for prompt in prompts:
      (tmp_path / run).mkdir(exist_ok=True)
      write(tmp_path / run, prompt, count=4)
  out = tmp_path / "figures" / "compare.png"
  runs = {"MV only": tmp_path / "mv", "joint": tmp_path / "mix"}
  figure.compare(runs, out, cell=16)
  with Image.open(out) as image:
    pixels = np.asarray(image)
  # The four views of the one shared prompt, side by side, in both rows.
  for level in (20, 40, 60):
    shown = (pixels[..., 0] == level) & (pixels[..., 1:] == 0).all(-1)
    assert shown.sum() == 2 * 8 * 8
  assert [path.name for path in out.parent.iterdir()] == ["compare.png"]


@pytest.mark.parametrize(
  "changes, message",
  [
    ({"views": 3}, "views=3: must be a square"),
    ({"seed": 5}, "no prompt has a sample with seed 5 in every folder"),
    ({"runs": {}}, "runs: there is none"),
  ],
)
def test_figure_errors(tmp_path, changes, message):
  write(tmp_path)
  arguments = {"runs": {"mv": tmp_path}, "out": tmp_path / "x.png"} | changes
  with pytest.raises(ValueError, match=message):
    figure.compare(arguments.pop("runs"), arguments.pop("out"), **arguments)
