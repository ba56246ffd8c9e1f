"""`launch.py plan`: every mistake is one line."""

import importlib.util
import sys

import pytest

import launch

PLAN = ["launch.py", "plan", "--config=configs/nano.py:multiview"]


@pytest.mark.parametrize(
  "arguments, words",
  [
    (["--topology=v5litepod-4"], ["unknown", "v5e:2x2", "v5p:", "v6e:"]),
    (["--topology=v5e:"], ["unknown", "16x16"]),
    (["--topology=v5e:2x2", "--programs=swim"], ["swim", "train, sample"]),
    (
      ["--topology=v5e:2x2", "--config.train.batch_size=0"],
      ["train.batch_size"],
    ),
  ],
)
def test_wrong_input_is_one_line(arguments, words, monkeypatch, capsys):
  monkeypatch.setattr(sys, "argv", [*PLAN, *arguments])
  assert launch.main() == 2
  line = capsys.readouterr().err
  assert line.startswith("error: ") and line.count("\n") == 1
  for word in words:
    assert word in line


def test_it_explains_itself(monkeypatch, capsys):
  monkeypatch.setattr(sys, "argv", ["launch.py", "plan", "--help"])
  with pytest.raises(SystemExit):
    launch.main()
  text = capsys.readouterr().out
  assert "--topology" in text and "None" not in text


def test_a_missing_compiler_is_named(monkeypatch, capsys):
  monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
  monkeypatch.setattr(sys, "argv", [*PLAN, "--topology=v5e:2x2"])
  assert launch.main() == 2
  line = capsys.readouterr().err
  assert "libtpu" in line and "requirements-aot.txt" in line
