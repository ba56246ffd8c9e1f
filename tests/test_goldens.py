"""Where the kept reference numbers come from."""

import json
import pathlib

import golden_weights
import pytest

ROOT = pathlib.Path(__file__).parents[1]
FOLDERS = sorted(
  path
  for path in golden_weights.FOLDER.iterdir()
  if path.is_dir() and path.name != "__pycache__"
)


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda path: path.name)
def test_a_golden_says_what_made_it(folder):
  made_by = json.loads((folder / "config.json").read_text())["made_by"]
  assert made_by["program"] and made_by["version"]
  if "script" in made_by:
    assert (ROOT / made_by["script"]).is_file()


def test_there_are_goldens():
  assert len(FOLDERS) > 10
