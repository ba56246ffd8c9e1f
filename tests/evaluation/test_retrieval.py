"""Names, prompts and the whole evaluation on objects told apart by colour."""

import json

import fake_features
import pytest
from PIL import Image

from mvjax.evaluation import networks, render_words, retrieval

COLORS = {"chair": (255, 0, 0), "desk": (0, 255, 0), "glass desk": (0, 0, 255)}


def record(name, number):
  return fake_features.record(name, number, color=COLORS[name])


@pytest.fixture
def calls(monkeypatch):
  """How many pictures each run of the stand-in network was given."""
  seen = []

  def mean_colour(batch):
    seen.append(len(batch))
    return batch.mean((1, 2)) + 1

  monkeypatch.setattr(networks, "lite0", fake_features.network(mean_colour))
  return seen


@pytest.fixture
def world(monkeypatch, calls):
  """Three names with 3, 2 and 2 objects; an image's feature is its colour."""
  counts = {"chair": 3, "desk": 2, "glass desk": 2}
  records = [record(n, i) for n, count in counts.items() for i in range(count)]
  fake_features.use(monkeypatch, records)
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


def evaluate(samples, folder, **options):
  return retrieval.evaluate(
    samples, folder, features=folder / "features", **options
  )


def test_frequent_names_count_objects_not_records(world):
  looks = world + [record("glass desk", 0) for _ in range(9)]
  assert render_words.frequent_names(looks, 2) == ["chair", "desk"]
  for count in (4, 0, -1):
    with pytest.raises(ValueError, match=f"num_names={count}.*3 names"):
      render_words.frequent_names(looks, count)


def test_names_that_captions_avoid_do_not_count(world):
  renamed = [item | {"captions": [b"a seat"]} for item in world[:3]]
  assert render_words.frequent_names(renamed + world[3:], 2) == [
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
  assert render_words.find_word(prompt, COLORS) == expected


def test_prompts_go_round_the_objects(world, tmp_path):
  out = tmp_path / "new" / "prompts.txt"
  prompts = render_words.retrieval_prompts(
    tmp_path, out=out, num_names=3, per_name=3
  )
  assert out.read_text().splitlines() == prompts
  named = [render_words.find_word(prompt, COLORS) for prompt in prompts]
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
  report = evaluate(samples, tmp_path, out=out, num_names=3, reference_views=4)
  assert json.loads(out.read_text()) == report
  assert list(report["scores"]) == ["name"]  # no record has a material
  found = report["scores"]["name"]
  assert found["num_assets"] == 4 and found["num_views"] == 8
  assert found["seeds"] == [3, 4]
  assert found["reference"]["num_renders"] == 7 * 4
  assert found["reference"]["num_objects"] == 7
  # A mean over names, not over assets: that would be 3 / 4.
  assert found["sampled"]["R@1"]["value"] == pytest.approx(2 / 3)
  assert found["sampled"]["R@1"]["num_assets"] == 4
  assert found["per_word"]["glass desk"]["R@1"] == 0
  assert [found["ceiling"][f"R@{k}"]["value"] for k in (1, 5)] == [1, 1]
  assert found["chance"]["R@1"] == pytest.approx(1 / 3)
  table = retrieval.format_table(report)
  reach = found["sampled"]["R@1"]["high"] - 2 / 3
  assert reach > 0 and f"66.7% ±{100 * reach:.1f}" in table
  assert "8 views of 4 assets" in table and "seeds 3, 4" in table


def test_materials_are_retrieved_too(monkeypatch, calls, tmp_path):
  """Each object in both materials: what is left out is all of an object."""
  materials = {"stone": (90, 90, 90), "knitted wool": (250, 250, 0)}
  fake_features.use(
    monkeypatch,
    [
      fake_features.record(name, i, color=color, material=material)
      for name in ("chair", "desk")
      for i in range(2)
      for material, color in materials.items()
    ],
  )
  samples = tmp_path / "samples"
  for prompt, color in (
    ("a red stone chair", materials["stone"]),
    ("a knitted wool teapot", materials["knitted wool"]),
    ("a stone vase", materials["knitted wool"]),
  ):
    write_sample(samples, prompt=prompt, seed=0, color=color)
  report = evaluate(samples, tmp_path, num_names=2)
  found = report["scores"]["material"]
  assert found["words"] == ["knitted wool", "stone"]
  assert found["reference"]["num_renders"] == 8 * 4
  assert found["reference"]["num_objects"] == 4
  assert found["num_assets"] == 3
  assert found["sampled"]["R@1"]["value"] == pytest.approx((1 + 1 / 2) / 2)
  assert found["ceiling"]["R@1"]["value"] == 1
  assert report["scores"]["name"]["num_assets"] == 1
  # Without samples: the same ceilings, and nothing is run again.
  calls.clear()
  alone = evaluate(None, tmp_path, num_names=2)
  assert not calls
  for kind, score in alone["scores"].items():
    assert score["ceiling"] == report["scores"][kind]["ceiling"]
    assert "sampled" not in score
  assert "sampled" not in retrieval.format_table(alone)


def test_features_are_made_once_and_not_in_one_heap(world, calls, tmp_path):
  samples = tmp_path / "samples"
  for seed in range(30):
    write_sample(samples, prompt="a desk", seed=seed, color=COLORS["desk"])
  first = evaluate(samples, tmp_path, num_names=3)
  assert max(calls) <= networks.BATCH_SIZE and sum(calls) >= 60 + 28
  calls.clear()
  assert evaluate(samples, tmp_path, num_names=3) == first
  assert not calls


def test_there_is_no_ceiling_where_every_name_has_one_object(world, tmp_path):
  del world[4:6], world[1:3]
  assert [item["uid"] for item in world] == [
    b"chair 0",
    b"desk 0",
    b"glass desk 1",
  ]
  write_sample(
    tmp_path / "samples", prompt="a desk", seed=1, color=COLORS["desk"]
  )
  report = evaluate(tmp_path / "samples", tmp_path, num_names=3)
  assert report["scores"]["name"]["ceiling"] is None
  assert "ceiling  " not in retrieval.format_table(report)


def test_useless_samples_and_names_are_named(world, tmp_path):
  samples = tmp_path / "samples"
  write_sample(samples, prompt="a teapot", seed=1, color=(0, 0, 0))
  with pytest.raises(
    retrieval.NothingAskedError, match="no prompt has one of the names"
  ):
    evaluate(samples, tmp_path, num_names=3)
  (tmp_path / "odd").mkdir()
  Image.new("RGB", (8, 16)).save(tmp_path / "odd" / "oblong.png")
  with pytest.raises(ValueError, match="none can be measured; .*oblong"):
    evaluate(tmp_path / "odd", tmp_path, num_names=3)
  with pytest.raises(ValueError, match="teapot: no reference renders"):
    evaluate(samples, tmp_path, names=["Teapot", "desk"])
  with pytest.raises(ValueError, match="give two"):
    evaluate(samples, tmp_path, names=["desk"])
