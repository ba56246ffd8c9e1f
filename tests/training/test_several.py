"""Runs of several processes: killed, stopped, and gone on with in another way.

The processes meet over loopback and have one CPU device each; their task is a
toy (`several`), all else is that of a real run.
"""

import collections
import json
import pathlib
import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from mvjax.parallel import processes
from mvjax.training import checkpoint, loop
from tests import loopback
from tests.training import several, small

ROOT = pathlib.Path(__file__).parents[2]


def start(workdir, count, *, event="", indices=None):
  """Starts processes of a run; the event is that of the last."""
  indices = range(count) if indices is None else indices
  workdir.mkdir(exist_ok=True)
  port = loopback.free_port()
  return [
    subprocess.Popen(
      [sys.executable, "-m", "tests.training.several", str(workdir)]
      + [
        str(count),
        str(index),
        str(port),
        event if index == indices[-1] else "",
      ],
      cwd=ROOT,
      stdout=subprocess.PIPE,
      stderr=subprocess.STDOUT,
      text=True,
    )
    for index in indices
  ]


def finish(started, *, code=0):
  """Waits for processes that must end so; returns what they print."""
  outputs = [process.communicate(timeout=300)[0] for process in started]
  for process, output in zip(started, outputs, strict=True):
    assert process.returncode == code, output
  return outputs


def final(workdir):
  return np.load(workdir / "final.npy")


def examples(workdir):
  """By step, the ids of the batch in the order of its rows."""
  rows = collections.defaultdict(dict)
  for path in workdir.glob("ids-*.jsonl"):
    for line in map(json.loads, path.read_text().splitlines()):
      rows[line["step"]] |= dict(zip(line["rows"], line["ids"], strict=True))
  return {
    step: [ids[row] for row in sorted(ids)]
    for step, ids in sorted(rows.items())
  }


EXPECTED = {
  step: [f"{step}-{row}" for row in range(4)] for step in range(several.STEPS)
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
  """Workdir of an undisturbed run of two processes."""
  workdir = tmp_path_factory.mktemp("whole")
  first, second = finish(start(workdir, 2))
  assert "finished at step 10" in first and "step 10" not in second
  return workdir


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
  """Workdir of a run, one of whose two processes got SIGTERM while saving."""
  workdir = tmp_path_factory.mktemp("stopped")
  first, second = finish(start(workdir, 2, event="terminate"))
  assert "signalled while writing" in second
  assert "stopped at step" in first
  return workdir


def test_the_processes_share_every_batch(whole):
  assert examples(whole) == EXPECTED


def test_files_are_written_once(whole):
  lines = (whole / "metrics.jsonl").read_text().splitlines()
  steps = [line["step"] for line in map(json.loads, lines) if "loss" in line]
  assert steps == list(range(1, several.STEPS + 1))
  losses = [line for line in map(json.loads, lines) if "loss" not in line]
  assert [line["step"] for line in losses] == [0, 4, 8, 10]
  assert all(line["validation/loss"] > 0 for line in losses)
  assert len(list((whole / "tensorboard").iterdir())) == 1


def test_sheets_show_examples_of_all_processes(whole):
  """Four images of the last batch, two a row; drawn by the first process."""
  names = sorted(path.name for path in (whole / "samples").iterdir())
  assert names == [f"train_{step:07d}.png" for step in (4, 8, 10)]
  with Image.open(whole / "samples" / names[-1]) as sheet:
    pixels = np.asarray(sheet)
  assert pixels.shape == (32, 32, 3)
  quarters = [
    half for part in np.split(pixels, 2) for half in np.split(part, 2, 1)
  ]
  assert all(quarter.std() > 10 for quarter in quarters)


def test_steps_are_profiled_on_request(whole):
  traces = list((whole / "profile").rglob("*.xplane.pb"))
  assert traces and all(path.stat().st_size for path in traces)


def test_killed_within_a_step_and_started_again(whole, tmp_path):
  """The survivor says so in one line, at once, and without a stack."""
  survivor, lost = start(tmp_path, 2, event="kill")
  lost.communicate(timeout=300)
  assert lost.returncode == -signal.SIGKILL
  output, _ = survivor.communicate(timeout=300)
  assert survivor.returncode == processes.LOST, output
  (line,) = [one for one in output.splitlines() if one.startswith("error:")]
  assert "another process of this run is gone" in line
  assert "start all of them again" in line
  assert "Traceback" not in output and "stack trace" not in output
  saved = small.checkpoint_steps(tmp_path)
  assert saved and saved[-1] <= several.EVENT_STEP
  finish(start(tmp_path, 2))
  np.testing.assert_array_equal(final(tmp_path), final(whole))
  assert examples(tmp_path) == EXPECTED


@pytest.mark.parametrize("count", [1, 4])
def test_two_processes_go_on_as_others(whole, stopped, tmp_path, count):
  """With the mesh of their devices, over which `fsdp` divides the state."""
  workdir = tmp_path / "run"
  shutil.copytree(stopped, workdir)
  step = small.checkpoint_steps(workdir)[-1]
  assert several.EVENT_STEP < step < several.STEPS
  finish(start(workdir, count))
  assert examples(workdir) == EXPECTED
  np.testing.assert_allclose(final(workdir), final(whole), atol=1e-6)


def test_a_missing_process_is_reported_in_one_line(tmp_path):
  (alone,) = start(tmp_path, 2, indices=[0], event="lonely")
  output, _ = alone.communicate(timeout=120)
  assert alone.returncode == processes.TIMED_OUT
  (line,) = [one for one in output.splitlines() if one.startswith("error:")]
  assert "all 2 processes did not meet at localhost" in line
  assert "processes.index" in line


@pytest.mark.parametrize(
  "event, message",
  [
    ("seeded", "ValueError: config: that of process 1 is not that of"),
    ("apart", "process 1 does not see what process 0 writes"),
  ],
)
def test_all_processes_refuse_what_is_not_alike(tmp_path, event, message):
  for output in finish(start(tmp_path, 2, event=event), code=1):
    assert message in output
  assert not list((tmp_path / "checkpoints").glob("*"))


def test_config_data_and_weights_must_be_alike(tmp_path, monkeypatch):
  asked = []
  monkeypatch.setattr(
    processes, "check_alike", lambda what, _: asked.append(what)
  )
  loop.train(small.config("vae", max_minutes=1e-9), tmp_path)
  assert asked[:3] == ["config", "data", "train.init_from="]


def test_all_processes_end_where_all_checkpoints_are_damaged(tmp_path):
  """The first one alone looks; the others do not wait for it in vain."""
  broken = tmp_path / "checkpoints" / "3"
  broken.mkdir(parents=True)
  (broken / checkpoint.LISTING).write_text('{"_CHECKPOINT_METADATA": 7}')
  for output in finish(start(tmp_path, 2), code=1):
    assert "ValueError: " in output
    assert "checkpoints: all checkpoints are damaged" in output
