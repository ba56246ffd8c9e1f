"""Names, prompts and the whole evaluation on objects told apart by colour."""

import io
import json

import numpy as np
import pytest
from PIL import Image

from mvjax.evaluation import features, retrieval

COLORS = {"chair": (255, 0, 0), "desk": (0, 255, 0), "glass desk": (0, 0, 255)}


def png(color):
  buffer = io.BytesIO()
  Image.new("RGBA", (4, 4), (*color, 255)).save(buffer, "PNG")
  return buffer.getvalue()


def record(name, number):
  captions = [f"a plain {name}", f"a small {name}"]
  return {
    "uid": f"{name} {number}".encode(),
    "name": name.title().encode(),
    "captions": [text.encode() for text in captions],
    "images": [png(COLORS[name])] * 6,
    "depths": [b""] * 6,
    "intrinsics": np.tile(np.eye(3, dtype=np.float32), (6, 1, 1)),
  }


@pytest.fixture
def world(monkeypatch):
  """Three names with 3, 2 and 2 objects; an image's feature is its colour."""
  counts = {"chair": 3, "desk": 2, "glass desk": 2}
  records = [record(n, i) for n, count in counts.items() for i in range(count)]
  monkeypatch.setattr(retrieval, "_records", lambda dataset, looks: records)
  monkeypatch.setattr(features, "IMAGE_SIZE", 4)
  monkeypatch.setattr(features, "load_weights", lambda cache: None)
  monkeypatch.setattr(
    features,
    "extract",
    lambda params, images: np.mean(images, (1, 2)) + 1,
  )
  return records


def write_sample(folder, *, prompt, seed, color):
  path = folder / f"{prompt.replace(' ', '-')}-{seed}"
  path.mkdir(parents=True)
  for i in range(2):
    Image.new("RGB", (9, 9), color).save(path / f"view_{i:02d}.png")
  Image.new("RGB", (9, 9)).save(path / "grid.png")
  (path / "sample.json").write_text(
    json.dumps({"prompt": prompt, "seed": seed})
  )


def test_frequent_names_count_objects_not_records(world):
  looks = world + [record("glass desk", 0) for _ in range(9)]
  assert retrieval.frequent_names(looks, 2) == ["chair", "desk"]
  with pytest.raises(ValueError, match="num_names=4.*3 names"):
    retrieval.frequent_names(looks, 4)


def test_names_that_captions_avoid_do_not_count(world):
  renamed = [item | {"captions": [b"a seat"]} for item in world[:3]]
  assert retrieval.frequent_names(renamed + world[3:], 2) == [
    "desk",
    "glass desk",
  ]


@pytest.mark.parametrize(
  "prompt, expected",
  [
    ("a blue glass desk", "glass desk"),
    ("A Desk, front view", "desk"),
    ("an armchair", None),
    ("a chair-like thing", "chair"),
  ],
)
def test_the_longest_whole_name_counts(prompt, expected):
  assert retrieval.find_name(prompt, COLORS) == expected


def test_prompts_go_round_the_objects(world, tmp_path):
  out = tmp_path / "new" / "prompts.txt"
  prompts = retrieval.retrieval_prompts(
    tmp_path, out=out, num_names=3, per_name=3
  )
  assert out.read_text().splitlines() == prompts
  named = [retrieval.find_name(prompt, COLORS) for prompt in prompts]
  assert named == ["chair"] * 3 + ["desk"] * 3 + ["glass desk"] * 3
  assert set(prompts[:3]) == {"a plain chair", "a small chair"}


def test_evaluation_counts_what_is_recognised(world, tmp_path):
  samples = tmp_path / "samples"
  for seed in (3, 4):
    write_sample(
      samples, prompt="a red chair", seed=seed, color=COLORS["chair"]
    )
  write_sample(samples, prompt="a desk", seed=3, color=COLORS["desk"])
  write_sample(samples, prompt="a glass desk", seed=4, color=COLORS["desk"])
  write_sample(samples, prompt="a teapot", seed=9, color=COLORS["desk"])
  out = tmp_path / "result.json"
  report = retrieval.evaluate(
    samples, tmp_path, out=out, num_names=3, reference_views=4
  )
  assert json.loads(out.read_text()) == report
  assert report["num_assets"] == 4 and report["num_views"] == 8
  assert report["seeds"] == [3, 4]
  assert report["reference"]["num_renders"] == 7 * 4
  assert report["reference"]["num_objects"] == 7
  assert report["sampled"]["R@1"] == pytest.approx(2 / 3)
  assert report["per_name"]["glass desk"]["R@1"] == 0
  assert report["ceiling"] == {"R@1": 1, "R@5": 1}
  assert report["chance"]["R@1"] == pytest.approx(1 / 3)
  table = retrieval.format_table(report)
  assert "66.7%" in table and "8 views of 4 assets, seeds 3, 4" in table


def test_there_is_no_ceiling_where_every_name_has_one_object(world, tmp_path):
  del world[4:6], world[1:3]
  assert [item["uid"] for item in world] == [
    b"chair 0",
    b"desk 0",
    b"glass desk 1",
  ]
  write_sample(tmp_path, prompt="a desk", seed=1, color=COLORS["desk"])
  report = retrieval.evaluate(tmp_path, tmp_path, num_names=3)
  assert report["ceiling"] is None
  assert "ceiling " not in retrieval.format_table(report).splitlines()[2]


def test_useless_samples_and_names_are_named(world, tmp_path):
  write_sample(tmp_path, prompt="a teapot", seed=1, color=(0, 0, 0))
  with pytest.raises(ValueError, match="no prompt has one of the names"):
    retrieval.evaluate(tmp_path, tmp_path, num_names=3)
  with pytest.raises(ValueError, match="teapot: no reference renders"):
    retrieval.evaluate(tmp_path, tmp_path, names=["Teapot"])
