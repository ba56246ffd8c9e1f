"""Which pairs become prompts, from records of known pairs."""

import pathlib

import pytest

from mvjax.evaluation import held_out_prompts as lib
from mvjax.generation import request

PROMPTS = pathlib.Path("configs/prompts")


def record(name, material, *, held_out, seen=None, colour="red", number=0):
  return {
    "uid": f"{name} {number}".encode(),
    "name": name.encode(),
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


def test_a_text_that_another_name_shows_is_not_held_out(records):
  # Another name with the same captions, in other colours.
  def chair(name, material, **flags):
    shown = record(name, material, colour="green", **flags)
    captions = [b"a green " + material.encode() + b" chair"]
    return shown | {"captions": captions}

  records.append(chair("Seat", "wood", held_out=False))
  records.append(chair("Stool", "stone", held_out=True, seen=True))
  saw, neither = lib.held_out_prompts("").values()
  assert saw == ["a blue stone chair", "a red denim table"]
  assert not neither


def test_names_that_tell_a_substance_are_left_out(records):
  records.append(record("Wooden table", "denim", held_out=True, seen=True))
  records.append(record("Stone lantern", "wood", held_out=True, seen=False))
  texts = sum(lib.held_out_prompts("").values(), [])
  assert not any("wooden" in text or "lantern" in text for text in texts)


def test_the_file_is_a_prompts_file_that_tells_the_kinds(records, tmp_path):
  out = tmp_path / "prompts.txt"
  prompts = lib.held_out_prompts("", out=out)
  assert list(request.read_prompts(out)) == sum(prompts.values(), [])
  text = out.read_text()
  assert "# 2 pairs that the 2D model saw:\na red wood chair" in text
  assert "# 1 pairs that neither model saw:\na blue stone chair" in text


@pytest.mark.parametrize("name", ["nano", "general"])
def test_shipped_lists_have_100_prompts(name):
  prompts = request.read_prompts(PROMPTS / f"{name}.txt")
  assert len(prompts) == 100
  assert all(3 < len(p) < 77 and p == p.strip(" .") for p in prompts)
