import os
import pathlib
import shutil
import sys

# The tables of damaged files of other tests are used here again.
sys.path[:0] = [
  str(pathlib.Path(__file__).parents[1] / name)
  for name in ("weights", "data_pipeline", "")
]
# Notes of XLA's about the machine are no line of the program.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import pytest  # noqa: E402

from tests.hostile import attack, good_inputs, program  # noqa: E402


@pytest.fixture(scope="session")
def launch():
  """A warmed launch.py."""
  started = program.Program()
  yield started
  started.close()


@pytest.fixture(scope="session")
def good(launch, model_folders, tmp_path_factory):
  """Good inputs; after all tests they are what they were."""
  folder = good_inputs.write(
    tmp_path_factory.mktemp("good"), launch, model_folders
  )
  before = attack.listing(folder)
  yield folder
  assert attack.listing(folder) == before


@pytest.fixture
def scene(good, tmp_path):
  """An empty working folder; what was left in it is removed."""
  home = tmp_path / "home"
  home.mkdir()
  yield attack.Scene(home=home, good=good)
  shutil.rmtree(tmp_path)
