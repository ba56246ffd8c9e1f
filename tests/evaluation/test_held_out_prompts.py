"""Which pairs become prompts, from records of known pairs."""

import collections
import pathlib

import pytest

from data_pipeline import captions, materials, objects
from data_pipeline.renders import splits
from mvjax.evaluation import held_out_prompts as lib
from mvjax.generation import request

PROMPTS = pathlib.Path("configs/prompts")


def record(name, material, *, held_out, seen=None, colour="red", number=0):
  return {
    "uid": f"{name} {number}".encode(),
    "noun": name.lower().encode(),
    "material": material.encode(),
    "captions": [f"a {colour} {material} {name.lower()}".encode()],
    "held_out_pair": held_out,
    "seen_by_image_model": not held_out if seen is None else seen,
  }


@pytest.fixture
def records(monkeypatch):
  found = [
    record("Table", "wood", held_out=False),
    record("Table", "denim", held_out=True, seen=True),
    record("Chair", "stone", held_out=True, seen=False, colour="blue"),
    record("Chair", "stone", held_out=True, seen=False, number=1),
    record("Chair", "wood", held_out=True, seen=True, number=2),
  ]
  monkeypatch.setattr(lib, "_records", lambda dataset: iter(found))
  return found


def test_one_prompt_a_pair_and_frequent_names_first(records):
  assert list(lib.held_out_prompts("").values()) == [
    ["a red wood chair", "a red denim table"],
    ["a blue stone chair"],
  ]
  limited = lib.held_out_prompts("", per_kind=1)
  assert list(limited.values()) == [
    ["a red wood chair"],
    ["a blue stone chair"],
  ]


def test_nouns_that_tell_a_substance_are_left_out(records):
  records.append(record("Beer glass", "denim", held_out=True, seen=True))
  assert not any(
    "glass" in text for text in sum(lib.held_out_prompts("").values(), [])
  )


def test_the_file_is_a_prompts_file_that_tells_the_kinds(records, tmp_path):
  out = tmp_path / "prompts.txt"
  prompts = lib.held_out_prompts("", out=out)
  assert list(request.read_prompts(out)) == sum(prompts.values(), [])
  text = out.read_text()
  assert "# 2 pairs that the 2D model saw:\na red wood chair" in text
  assert "# 1 pairs that neither model saw:\na blue stone chair" in text


def without_colour(text):
  """What a caption says after its article and its colour."""
  words = text.split()
  return " ".join(words[1 + (words[0] in ("a", "an")) :])


def test_the_shipped_pairs_are_held_out_by_the_rule():
  """Both kinds of the list are as the hashes of the pairs decide."""
  pairs = {}
  for thing in objects.catalogue(pathlib.Path("none")):
    for material in materials.MATERIALS:
      text = captions.in_material(thing, material=material, color="red")[0]
      pair = splits.pair(captions.bare_noun(thing), material)
      assert pairs.setdefault(without_colour(text), pair) == pair
  kind, count = None, collections.Counter()
  for line in (PROMPTS / "nano.txt").read_text("utf-8").splitlines():
    if line.startswith("#"):
      kind = line if "pairs that" in line else kind
      continue
    pair = pairs[without_colour(line)]
    assert splits.held_out_pair(pair), line
    assert splits.seen_by_image_model(pair) == ("2D model saw" in kind), line
    count[kind] += 1
  assert list(count.values()) == [50, 50]


@pytest.mark.parametrize("name", ["nano", "general"])
def test_shipped_lists_have_100_prompts(name):
  prompts = request.read_prompts(PROMPTS / f"{name}.txt")
  assert len(prompts) == 100
  assert all(3 < len(p) < 77 and p == p.strip(" .") for p in prompts)
