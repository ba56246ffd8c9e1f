"""What this program did not write is never replaced: one line, exit code 2."""

import types

import fake_assets
import pytest
from etils import epath

from data_pipeline import build
from mvjax.evaluation import consistency_report, image_report, refit
from mvjax.pages import site
from mvjax.reconstruction import asset_folder
from mvjax.training import loop
from mvjax.weights import write
from tests.training import small

MINE = "mine"
NOT_OURS = "is not of this program"


def put(path):
  """A file of the user's at a path, or in a folder if it has no suffix."""
  file = path if path.suffix else path / "kept.txt"
  file.parent.mkdir(parents=True, exist_ok=True)
  file.write_text(MINE)
  return file


def refused(launch_py, capsys, path, *arguments, words=NOT_OURS):
  """Runs a command that must name the path, and leave it alone."""
  file = put(path)
  before = sorted(file.parent.iterdir())
  assert launch_py(*arguments) == 2
  line = capsys.readouterr().err
  assert line.startswith("error: ") and line.count("\n") == 1
  assert str(path) in line and words in line
  assert file.read_text() == MINE
  assert sorted(file.parent.iterdir()) == before


@pytest.mark.parametrize(
  "command",
  [
    ["figure", "a=b"],
    ["evaluate", "retrieval"],
    ["evaluate", "retrieval-prompts"],
    ["evaluate", "held-out-prompts"],
  ],
  ids=" ".join,
)
def test_a_folder_makes_no_room_for_a_file(
  command, launch_py, capsys, tmp_path
):
  folder = tmp_path / "folder"
  words = "is there and no file"
  refused(launch_py, capsys, folder, *command, f"--out={folder}", words=words)


@pytest.mark.parametrize("name", ["index.html", "page_files", "x/index.html"])
def test_pages_of_others_stay(name, launch_py, capsys, tmp_path):
  fake_assets.write(tmp_path / "x", fake_assets.ball(4))
  view = "view", f"--out={tmp_path}", "--no-serve"
  refused(launch_py, capsys, tmp_path / name, *view)


def test_a_file_among_ours_stays(launch_py, capsys, tmp_path):
  fake_assets.write(tmp_path / "x", fake_assets.ball(4))
  site.build(tmp_path)
  (tmp_path / "page_files" / "notes.txt").write_text(MINE)
  assert launch_py("view", f"--out={tmp_path}", "--no-serve") == 2
  assert f"{tmp_path}/page_files: {NOT_OURS}" in capsys.readouterr().err
  assert (tmp_path / "page_files" / "notes.txt").read_text() == MINE


@pytest.mark.parametrize("name", ["index.html", "page_files"])
def test_sampling_does_not_begin_where_its_pages_cannot_be(
  name, launch_py, capsys, tmp_path
):
  sample = "sample", "--config=configs/nano.py", "--prompt=a sofa"
  refused(launch_py, capsys, tmp_path / name, *sample, f"--out={tmp_path}")


@pytest.mark.parametrize(
  "name", ["table.json", "table.md", "index.html", "copies", "page_files"]
)
def test_a_table_does_not_begin_where_others_files_are(
  name, launch_py, capsys, tmp_path
):
  table = "evaluate", "--table=configs/table1.py", f"--out={tmp_path}"
  refused(launch_py, capsys, tmp_path / name, *table)


def test_reports_of_others_stay(tmp_path):
  images, consistency = (
    put(tmp_path / f"{name}.json") for name in ("images", "consistency")
  )
  with pytest.raises(ValueError, match=f"images.json: {NOT_OURS}"):
    settings = image_report.Settings(reference="none")
    image_report.evaluate({}, settings, out=tmp_path)
  tools = consistency_report.Tools(refit=refit.of_field(), folds=2, lpips=None)
  with pytest.raises(ValueError, match=f"consistency.json: {NOT_OURS}"):
    settings = consistency_report.Settings()
    consistency_report.evaluate({}, settings, tools=tools, out=tmp_path)
  assert images.read_text() == consistency.read_text() == MINE


@pytest.mark.parametrize("name", ["asset.glb", "asset_turntable.gif"])
def test_assets_of_others_stay(tmp_path, name):
  """But not what an interrupted reconstruction has left."""
  put(tmp_path / name)
  with pytest.raises(ValueError, match=f"{name}: {NOT_OURS}"):
    asset_folder.is_finished(tmp_path, {})
  (tmp_path / ".reconstruction.partial").mkdir()
  assert not asset_folder.is_finished(tmp_path, {})


@pytest.mark.parametrize("part", ["vae", "tokenizer", "scheduler"])
def test_models_are_not_written_over_other_folders(
  part, launch_py, capsys, tmp_path
):
  export = "export", f"--workdir={tmp_path}/run", f"--out={tmp_path}"
  refused(launch_py, capsys, tmp_path / part, *export)
  with pytest.raises(ValueError, match=f"{part}: {NOT_OURS}"):
    write.check_target(tmp_path, format="diffusers")


@pytest.mark.parametrize("name", ["config.json", "metrics.jsonl", "samples"])
def test_a_run_does_not_begin_among_others_files(tmp_path, name):
  file = put(tmp_path / name)
  with pytest.raises(ValueError, match=f"{name}: {NOT_OURS}"):
    loop.train(small.config("vae"), tmp_path)
  assert file.read_text() == MINE


def test_a_folder_of_others_is_no_data_set(tmp_path):
  folder = tmp_path / "renders" / "1.0.0"
  put(folder)
  make = types.SimpleNamespace(data_dir=str(folder))
  with pytest.raises(ValueError, match="is there and is no data set"):
    build.write(lambda **_: make, epath.Path(tmp_path), {})
