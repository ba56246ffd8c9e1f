"""The command line: help everywhere, one line for every mistake."""

import ast
import pathlib
import sys
import tomllib

import pytest

import launch
from mvjax import compilation
from mvjax.commands import flags

ROOT = pathlib.Path(__file__).parents[1]
COMMANDS = (
  ["data", "fetch"],
  ["data", "render"],
  ["data", "build"],
  ["train"],
  ["export"],
  ["convert"],
  ["sample"],
  ["evaluate", "retrieval"],
  ["evaluate", "retrieval-prompts"],
  ["figure"],
  ["curves"],
  ["evaluate"],
  ["evaluate", "table"],
  ["evaluate", "images"],
  ["evaluate", "consistency"],
  ["view"],
)


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_explains_itself(command, launch_py, capsys):
  with pytest.raises(SystemExit) as exit_:
    launch_py(*command, "--help")
  assert exit_.value.code == 0
  text = capsys.readouterr().out
  assert "--out" in text or "--workdir" in text
  assert "None" not in text


@pytest.mark.parametrize(
  "arguments, words",
  [
    ([], ["config is missing", "--config="]),
    (["--config=configs/nowhere.py"], ["configs/nowhere.py"]),
    (["--config=configs/nano.py:colour"], ["colour", "vae, image, multiview"]),
    (
      ["--config=configs/nano.py:vae", "--config.train.bach_size=1"],
      ["bach_size"],
    ),
    (["--config=configs/nano.py:vae", "--config.train.steps=many"], ["many"]),
    (["--config=configs/nano.py:vae", "--speed=9"], ["speed"]),
    (["--config=configs/nano.py:vae", "more"], ["'more'"]),
  ],
)
def test_a_wrong_config_is_one_line_and_exit_code_2(
  arguments, words, launch_py, capsys, tmp_path
):
  assert launch_py("train", f"--workdir={tmp_path}", *arguments) == 2
  line = capsys.readouterr().err
  assert line.startswith("error: ") and line.count("\n") == 1
  for word in words:
    assert word in line


@pytest.mark.parametrize(
  "arguments, words",
  [
    ([], ["table is missing", "--table="]),
    (["--table=configs/table1.py:huge"], ["huge", "runlocal"]),
    (["--table=configs/table1.py", "--table.sample.stps=1"], ["stps"]),
    (["--table=configs/table1.py", "--table.num_prompts=101"], ["101", "100"]),
    (["table", "--table", "configs/table1.py", "--table.seeds=a"], ["seeds="]),
    (["--table=configs/joint_mvdream_sd21.py"], ["table: has no columns"]),
    (["--table=configs/nano.py:vae"], ["record of a table", "table1.py"]),
  ],
  ids=str,
)
def test_a_wrong_table_is_one_line_and_exit_code_2(
  arguments, words, launch_py, capsys, tmp_path
):
  assert launch_py("evaluate", *arguments, f"--out={tmp_path}/out") == 2
  line = capsys.readouterr().err
  assert line.startswith("error: ") and line.count("\n") == 1
  for word in words:
    assert word in line
  assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
  "arguments, words",
  [
    (["--prompt= "], ["prompt=' '", "is empty"]),
    ([], ["neither given", "--prompts=FILE"]),
    (["--prompt=a sofa", "--views=0"], ["views=0", "1 to 1024"]),
    (["--prompt=a sofa", "--lambda_schedule=best"], ["best", "paper"]),
    (["--prompt=a sofa", "--score=3d"], ["3d", "consistency"]),
    (["--prompt=a sofa", "--multiview=no/such/model"], ["no/such/model"]),
    (["--prompt=a sofa", "--cameras=no.json"], ["cameras=no.json"]),
    (["--prompt=a sofa", "--cameras=a", "--views=3"], ["views=3", "leave out"]),
    (["--prompts=no/such/file"], ["no/such/file"]),
  ],
  ids=str,
)
def test_a_wrong_sampling_request_is_one_line_before_anything_compiles(
  arguments, words, launch_py, capsys, tmp_path
):
  sample = "sample", "--config=configs/nano.py", f"--out={tmp_path}/out"
  with compilation.timed() as stopwatch:
    assert launch_py(*sample, *arguments) == 2
  assert not stopwatch.compiling
  line = capsys.readouterr().err
  assert line.startswith("error: ") and line.count("\n") == 1
  for word in words:
    assert word in line
  assert not list(tmp_path.glob("out/*"))


@pytest.mark.parametrize(
  "arguments, words",
  [
    (["sample", "--out=x", "--views=many"], ["--views", "'many'"]),
    (["sample", "--prompt=a sofa"], ["--out", "required"]),
    (["convert", "x", "--out=y", "--dtype=int8"], ["--dtype", "float16"]),
    (["convert", "x", "--out=y", "--lora_scale=nan"], ["lora_scale=nan"]),
    (["paint"], ["'paint'", "sample"]),
    (["convert", "x", "--out="], ["out=''", "no place"]),
    (["figure", "a=b", "--out=x", "--views=-1"], ["views=-1", "square"]),
    (["evaluate", "retrieval-prompts", "--per_name=0"], ["per_name=0"]),
    (["evaluate", "held-out-prompts", "--per_kind=0"], ["per_kind=0"]),
  ],
  ids=str,
)
def test_wrong_words_are_one_line(arguments, words, launch_py, capsys):
  assert launch_py(*arguments) == 2
  line = capsys.readouterr().err
  assert line.startswith("error: ") and line.count("\n") == 1
  assert len(line) < 1000 and line[:-1].isprintable()
  for word in words:
    assert word in line


def test_an_error_that_quotes_a_file_is_a_line_of_a_terminal(launch_py, capsys):
  name = "x" * 200 + "\n\x1b[2J" + "y" * 9000
  assert launch_py("convert", name, "--out=out") == 2
  line = capsys.readouterr().err
  assert line.count("\n") == 1 and line[:-1].isprintable()
  assert 200 < len(line) < 1000 and " ... " in line and "too long" in line


def test_overrides_reach_the_config(monkeypatch):
  arguments = [
    "--config=configs/nano.py:multiview",
    "--config.train.batch_size=3",
  ]
  monkeypatch.setattr(sys, "argv", ["launch.py", *arguments])
  config = flags.parse_config(arguments)
  assert config.task == "multiview"
  assert config.train.batch_size == 3


def test_rows_of_a_picture_must_have_a_label(launch_py, capsys, tmp_path):
  assert launch_py("figure", "folder", f"--out={tmp_path}/a.png") == 2
  assert "LABEL=FOLDER" in capsys.readouterr().err


@pytest.mark.parametrize(
  "arguments, words",
  [
    (["convert", "no/such/model"], "no/such/model does not exist"),
    (["export", "--checkpoint=no/such/model"], "no/such/model does not exist"),
    (["export", "--checkpoint=x", "--format=gguf"], "orbax, safetensors"),
    (["export", "--workdir=no/such/run"], "no checkpoints in"),
  ],
)
def test_models_that_cannot_be_written_are_one_line(
  arguments, words, launch_py, capsys, tmp_path
):
  assert launch_py(*arguments, f"--out={tmp_path}/out") == 2
  line = capsys.readouterr().err
  assert line.startswith("error: ") and line.count("\n") == 1
  assert words in line
  assert not list(tmp_path.iterdir())


def test_other_pythons_are_told_which_one_is_needed(monkeypatch, capsys):
  for version in ((2, 7, 18), (3, 10, 13), (3, 99, 0)):
    monkeypatch.setattr(sys, "version_info", version)
    assert launch.main() == 2
    line = capsys.readouterr().err
    assert line.startswith(f"error: this is Python {version[0]}.{version[1]},")
    assert "needs 3.11 to 3.13" in line and line.count("\n") == 1


def test_old_pythons_can_read_the_executable():
  """The oldest grammar that this Python knows, and what 2.7 lacks."""
  text = (ROOT / "launch.py").read_text()
  tree = ast.parse(text, feature_version=(3, 7))
  for node in ast.walk(tree):
    assert not isinstance(node, ast.JoinedStr | ast.AnnAssign | ast.NamedExpr)
    assert not getattr(node, "annotation", None)
    assert not getattr(node, "returns", None)
  assert text.isascii()


def test_the_interpreters_are_those_of_the_package():
  project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
  (_, oldest), (major, after) = launch.OLDEST, launch.NEWEST
  wanted = f">={launch.OLDEST[0]}.{oldest},<{major}.{after + 1}"
  assert project["requires-python"] == wanted
