"""`launch.py plan` with the compiler at hand: mistakes, and a plan as JSON."""

import json
import sys

import pytest

import launch

PLAN = ["launch.py", "plan", "--config=configs/nano.py:multiview,runlocal"]


@pytest.mark.parametrize(
  "arguments, words",
  [
    (["--topology=v5e:3x5"], ["v5e:3x5", "unknown", "16x16"]),
    (["--topology=v5e:2x2", "--config.mesh.fsdp=3"], ["mesh.fsdp=3", "4"]),
    (
      ["--topology=v5e:4x4", "--config.train.batch_size=6"],
      ["train.batch_size=6", "16 devices"],
    ),
  ],
)
def test_wrong_input_is_one_line(arguments, words, monkeypatch, capfd):
  monkeypatch.setattr(sys, "argv", [*PLAN, *arguments])
  assert launch.main() == 2
  (line,) = [
    line for line in capfd.readouterr().err.splitlines() if "error: " in line
  ]
  for word in words:
    assert word in line


def test_a_plan_is_json(monkeypatch, capfd, tmp_path):
  """Block by block, of a run that needs no weights."""
  monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
  arguments = ["--topology=v5e:2x2", "--programs=train", "--json"]
  monkeypatch.setattr(sys, "argv", [*PLAN, *arguments])
  assert launch.main() == 0
  made = json.loads(capfd.readouterr().out)
  assert made["chips"] == 4
  (step,) = made["programs"]
  assert step["fits"] and step["flops"] > 0
  # Gradients of replicated parameters are summed over the chips.
  assert step["collectives"]["all-reduce"]["bytes_sent"] > 0
