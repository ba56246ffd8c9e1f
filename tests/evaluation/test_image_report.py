"""The command on small folders with networks that can be worked out.

The stand-in network's features are the mean colour of a picture.
"""

import dataclasses
import json
import re
import shutil

import fake_assets
import fake_features
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from mvjax.evaluation import (
  clip,
  image_report,
  inception,
  networks,
  retrieval,
)
from mvjax.views import asset_views, view_sets

RED, BLUE, DARK = (0.8, -0.8, -0.8), (-0.8, -0.8, 0.8), (-0.9, -0.9, -0.9)


def picture(colour, rng):
  noise = 0.2 * rng.standard_normal((2, 1, 1, 3))
  image = np.clip(np.asarray(colour) + noise, -1, 1)
  return asset_views.Views(image=np.broadcast_to(image, (2, 8, 8, 3)))


def write_set(folder, colours, *, seed):
  rng = np.random.default_rng(seed)
  for i, colour in enumerate(colours):
    fake_assets.write(
      folder / f"asset-{i}",
      picture(colour, rng),
      prompt="a red ball" if colour == RED else "a blue ball",
      seed=None,  # other objects, not one prompt drawn again
      record={
        "seconds_of_batch": {"denoise": 5.0, "decode": 1.0, "compile": 9.0},
        "batch_size": 3,
        "peak_memory_bytes": 3 * 2**20,
      },
    )


@pytest.fixture
def calls(monkeypatch):
  """Pictures that the stand-in network was run on."""
  seen = []

  def apply(batch):
    seen.append(len(batch))
    return batch.mean((1, 2))

  stand_in = fake_features.network(apply)
  monkeypatch.setitem(image_report.PACKAGED, "lite0", stand_in)
  return seen


@pytest.fixture
def folders(tmp_path):
  write_set(tmp_path / "reference", [RED, BLUE] * 6, seed=0)
  write_set(tmp_path / "good", [RED, BLUE] * 3, seed=1)
  write_set(tmp_path / "dark", [DARK] * 6, seed=2)
  return tmp_path


def open_sets(folders, *names):
  return {name: view_sets.open_set(folders / name) for name in names}


def settings(folders, **changes):
  base = image_report.Settings(
    reference=str(folders / "reference"), packaged=("lite0",)
  )
  return dataclasses.replace(base, **changes)


def test_better_pictures_are_nearer(folders, calls):
  samples = open_sets(folders, "good", "dark")
  report = image_report.evaluate(
    samples, settings(folders), out=folders / "out"
  )
  assert json.loads((folders / "out/images.json").read_text()) == report
  good, dark = (report["methods"][name] for name in ("good", "dark"))
  for name in ("KD-mean", "FD-mean"):
    assert good["figures"][name]["high"] < dark["figures"][name]["low"]
    assert good["figures"][name]["num_assets"] == 6
    assert good["figures"][name]["num_images"] == 12
  # Unbiased, so about 0 (below: the colours are dealt evenly, not drawn).
  assert -1 < good["figures"]["KD-mean"]["value"] < 0.2
  assert good["published"]["KD-mean, subsets"]["size"] == 12
  assert good["figures"]["seconds"]["value"] == 2
  assert good["figures"]["peak memory (MiB)"]["value"] == 3
  table = image_report.format_report(report)
  assert "24 images of 12 assets" in table and "KD-mean ↓" in table
  assert "give --clip" in table


def test_features_are_made_once(folders, calls):
  samples = open_sets(folders, "good")
  first = image_report.evaluate(samples, settings(folders), out=folders / "out")
  assert sum(calls) >= 36
  calls.clear()
  again = image_report.evaluate(samples, settings(folders), out=folders / "out")
  assert again == first and not calls
  # Another picture: one asset is done again.
  rng = np.random.default_rng(9)
  folder = folders / "good/asset-1"
  for file in folder.iterdir():
    file.unlink()
  folder.rmdir()
  fake_assets.write(folder, picture(DARK, rng), prompt="a red ball")
  samples = open_sets(folders, "good")
  image_report.evaluate(samples, settings(folders), out=folders / "out")
  assert len(calls) == 1


def test_an_interrupted_run_goes_on(folders, calls, monkeypatch):
  samples = open_sets(folders, "good")
  options = dict(out=folders / "out")
  monkeypatch.setattr(networks, "BATCH_SIZE", 2)
  real = networks.store.Store.write_array
  written = []

  def stop_after_five(self, name, values, *, key):
    if len(written) == 5:
      raise KeyboardInterrupt
    written.append(name)
    real(self, name, values, key=key)

  with monkeypatch.context() as patch:
    patch.setattr(networks.store.Store, "write_array", stop_after_five)
    with pytest.raises(KeyboardInterrupt):
      image_report.evaluate(samples, settings(folders), **options)
  rest = []

  def count(self, name, values, *, key):
    rest.append(name)
    real(self, name, values, key=key)

  monkeypatch.setattr(networks.store.Store, "write_array", count)
  resumed = image_report.evaluate(samples, settings(folders), **options)
  # 12 assets of the reference and 6 of the method.
  assert len(rest) == 18 - 5
  whole = image_report.evaluate(samples, settings(folders), out=folders / "new")
  assert resumed["methods"] == whole["methods"]


def test_inception_gives_fid_kid_and_is(folders, calls, monkeypatch):
  kernel = 40 * jnp.eye(inception.NUM_FEATURES, inception.NUM_CLASSES)
  params = {"fc": {"kernel": kernel}}
  monkeypatch.setattr(inception, "load_weights", lambda path: params)
  monkeypatch.setattr(inception, "IMAGE_SIZE", 8)
  monkeypatch.setattr(
    inception,
    "pooled_features",
    lambda params, batch: np.pad(batch.mean((1, 2)), ((0, 0), (0, 2045))),
  )
  weights = folders / "inception.pth"
  weights.write_bytes(b"weights")
  report = image_report.evaluate(
    open_sets(folders, "good"),
    settings(folders, packaged=(), inception=str(weights)),
    out=folders / "out",
  )
  figures = report["methods"]["good"]["figures"]
  for convention in ("clean", "torch"):
    assert {f"{x} ({convention})" for x in ("FID", "KID", "IS")} <= set(figures)
    # Red or blue, for certain.
    assert figures[f"IS ({convention})"]["value"] == pytest.approx(2, rel=0.05)
  published = report["methods"]["good"]["published"]
  assert published["IS (clean), splits"]["splits"] == 10


def test_clip_scores_the_own_prompt(folders, calls, monkeypatch):
  class Model(clip.Clip):
    image_size = 8

    def __init__(self):
      pass

    def embed_images(self, images):
      mean = images.mean((1, 2)) + 1e-6  # batches are filled up with zeros
      return mean / np.linalg.norm(mean, axis=-1, keepdims=True)

    def embed_texts(self, texts):
      colours = {"a red ball": (1.0, 0, 0), "a blue ball": (0, 0, 1.0)}
      return np.array([colours[text] for text in texts])

  def shifted(image, size):
    return np.maximum(image, 0.01)

  monkeypatch.setattr(clip, "load", lambda source: Model())
  monkeypatch.setattr(clip, "prepare", shifted)
  (folders / "clip").mkdir()
  (folders / "clip/model.safetensors").write_bytes(b"weights")
  samples = open_sets(folders, "good", "dark")
  report = image_report.evaluate(
    samples,
    settings(folders, packaged=(), clip=str(folders / "clip")),
    out=folders / "out",
  )
  good, dark = (report["methods"][x]["figures"] for x in ("good", "dark"))
  assert good["CLIP score"]["value"] > 95
  assert dark["CLIP score"]["value"] < 80
  assert good["R-precision of 2"]["value"] == 1
  assert "R-precision of 2" not in dark  # one prompt only


@pytest.fixture
def renders(folders, monkeypatch):
  """A data set of 18 grey names, red and blue balls, in two materials."""
  colours = {"red ball": (230, 25, 25), "blue ball": (25, 25, 230)}
  colours |= {f"thing {i}": (10 * i, 10 * i, 10 * i) for i in range(18)}
  fake_features.use(
    monkeypatch,
    [
      fake_features.record(name, i, color=color, material=("red", "grey")[i])
      for name, color in colours.items()
      for i in range(2)
    ],
  )
  monkeypatch.setattr(
    networks, "lite0", fake_features.network(lambda x: x.mean((1, 2)) + 1)
  )
  (folders / "renders").mkdir()
  (folders / "renders/dataset_info.json").write_text("{}")
  return settings(folders, packaged=(), reference=str(folders / "renders"))


def test_retrieval_stands_for_clip(folders, renders):
  samples = open_sets(folders, "good", "dark")
  report = image_report.evaluate(samples, renders, out=folders / "out")
  good, dark = (report["methods"][x]["figures"] for x in ("good", "dark"))
  assert good["retrieval R@1 of 20"]["value"] == 1
  assert good["retrieval R@1 of 20"]["num_assets"] == 6
  assert dark["retrieval R@1 of 20"]["value"] < 0.5
  # Of the materials only one is ever asked for, and by half of the prompts.
  assert good["material retrieval R@1 of 2"]["num_assets"] == 3
  assert "material retrieval R@1 of 2" not in dark
  assert "not CLIP" in report["text"] and "no prompt" not in report["text"]
  # The same figure, by the other command.
  alone = retrieval.evaluate(
    folders / "good",
    folders / "renders",
    features=folders / "out/features",
  )
  found = alone["scores"]["name"]["sampled"]["R@1"]
  assert found == good["retrieval R@1 of 20"]


def test_one_odd_asset_stops_nothing(folders, calls, renders):
  """It is left out by all figures, and is no missing name but a failure."""
  Image.new("RGB", (3, 3)).save(folders / "good/asset-1/view_01.png")
  damaged = folders / "good/asset-3/view_00.png"
  damaged.write_bytes(damaged.read_bytes()[:-40])
  given = dataclasses.replace(renders, packaged=("lite0",))
  for _ in range(2):  # What is kept says it again.
    report = image_report.evaluate(
      open_sets(folders, "good", "dark"), given, out=folders / "out"
    )
    good = report["methods"]["good"]
    assert good["num_assets"] == 6
    for name in ("KD-mean", "retrieval R@1 of 20"):
      assert good["figures"][name]["num_assets"] == 4
    assert list(good["failures"]["images"]["reasons"]) == ["asset-1", "asset-3"]
    (note,) = report["notes"]
    assert note.startswith("images: 2 of 6 assets of good failed; asset-1: ")
    assert note in image_report.format_report(report)
    assert not report["methods"]["dark"]["failures"]
  alone = retrieval.evaluate(
    folders / "good", folders / "renders", features=folders / "out/features"
  )
  assert "2 of 6 assets" in retrieval.format_table(alone)


def test_prompts_without_the_names_are_remarked(folders, renders):
  write_set(folders / "vases", [RED, BLUE], seed=3)
  for i, file in enumerate(folders.glob("vases/*/sample.json")):
    file.write_text(json.dumps({"prompt": f"vase {i}"}))
  report = image_report.evaluate(
    open_sets(folders, "vases"), renders, out=folders / "out"
  )
  assert "no prompt has one of the names" in report["text"]
  assert "no prompt has one of the materials" in report["text"]


@pytest.mark.parametrize(
  "changes, message",
  [
    ({"packaged": ("vgg19",)}, "networks='vgg19'.*lite0, vgg16"),
    ({"conventions": ("tf",)}, "conventions='tf'.*clean, torch"),
    ({"reference_assets": 0}, "reference_assets"),
  ],
)
def test_wrong_settings_are_named(tmp_path, changes, message):
  with pytest.raises(ValueError, match=message):
    image_report.Settings(reference=str(tmp_path), **changes)


def test_strips_are_not_squashed_to_squares(folders, calls):
  strip = folders / "good/asset-1"
  for file in strip.glob("view_*.png"):
    file.unlink()
  Image.new("RGB", (64, 8)).save(strip / "0.png")
  (strip / "transforms.json").unlink(missing_ok=True)
  message = "asset-1: pictures of 64x8 .*every frame of a transforms"
  report = image_report.evaluate(
    open_sets(folders, "good"), settings(folders), out=folders / "out"
  )
  assert re.search(message, report["notes"][0])
  for i in (2, 3, 4, 5):
    shutil.rmtree(folders / f"good/asset-{i}")
  with pytest.raises(ValueError, match=f"good: .*there is 1; {message}"):
    image_report.evaluate(
      open_sets(folders, "good"), settings(folders), out=folders / "out"
    )


def test_seeds_of_a_prompt_do_not_narrow_intervals(folders, calls):
  """Every asset once more, with another seed, says nothing new."""

  def spreads(name):
    report = image_report.evaluate(
      open_sets(folders, name), settings(folders), out=folders / "out"
    )
    figure = report["methods"][name]["figures"]["FD-mean"]
    return figure["num_assets"], figure["high"] - figure["value"]

  for copies in (1, 2):
    rng = np.random.default_rng(5)
    for i in range(5):
      given = picture(RED, rng)
      for seed in range(copies):
        fake_assets.write(
          folders / f"{copies}/ball-{i}-{seed}",
          given,
          prompt=f"ball {i}",
          seed=seed,
        )
  once, twice = spreads("1"), spreads("2")
  assert (once[0], twice[0]) == (5, 10)
  # Not 0.7 of it; covariances of twice as many differ a little.
  assert twice[1] == pytest.approx(once[1], rel=0.15)


def test_one_asset_is_not_a_set(folders, calls):
  with pytest.raises(ValueError, match="good: .*two assets"):
    image_report.evaluate(
      {"good": view_sets.open_set(folders / "good/asset-0")},
      settings(folders),
      out=folders / "out",
    )
