"""Metric files, the non-finite guard and the sample sheet."""

import json
import sys
import types
from unittest import mock

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from mvjax.training import metrics


@pytest.fixture
def writer(tmp_path):
  with metrics.Writer(
    tmp_path,
    steps=10,
    log_every=2,
    peak_flops=50.0,
  ) as made:
    yield made


WORK = metrics.Work(examples=1, images=3, flops=5.0)


def test_lines_hold_means_over_the_window(writer, tmp_path, capsys):
  for step in range(1, 5):
    writer.push(step, {"loss": jnp.float32(step)}, work=WORK)
  writer.flush()
  lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
  lines = [json.loads(line) for line in lines]
  assert [line["step"] for line in lines] == [2, 4]
  assert [line["loss"] for line in lines] == [1.5, 3.5]
  ratio = lines[0]["images_per_second"] / lines[0]["steps_per_second"]
  assert ratio == pytest.approx(3)
  assert lines[0]["mfu"] == pytest.approx(0.1 / lines[0]["step_seconds"])
  assert "step 4/10  loss 3.5" in capsys.readouterr().out
  assert list((tmp_path / "tensorboard").iterdir())


def test_a_killed_process_leaves_no_step_twice_and_no_half_line(tmp_path):
  """Saved at 4, killed at 6 within a line; validated at 4 after saving."""
  path = tmp_path / "metrics.jsonl"
  rows = [
    {"step": 2, "loss": 1.0},
    {"step": 2, "validation/loss": 1.0},
    {"step": 4, "loss": 1.0},
    {"step": 4, "validation/loss": 1.0},
    {"step": 6, "loss": 1.0},
  ]
  lines = [json.dumps(row) + "\n" for row in rows]
  path.write_text("".join(lines) + lines[-1][:7])
  for _ in range(2):
    with metrics.Writer(tmp_path, steps=10, log_every=2, first_step=4):
      assert path.read_text() == "".join(lines[:3])
  path.write_text("".join(lines[:3]).rstrip("\n"))
  with metrics.Writer(tmp_path, steps=10, log_every=2, first_step=4) as writer:
    writer.scalars(4, {"validation/loss": 1.0})
  assert path.read_text() == "".join(lines[:4])


def test_downloads_are_one_step_behind(writer):
  writer.push(1, {"loss": jnp.float32(jnp.nan)}, work=WORK)
  with pytest.raises(metrics.NonFiniteError, match="step 1: loss"):
    writer.push(2, {"loss": jnp.float32(0)}, work=WORK)


def test_sheet_is_row_by_row_and_white_where_empty(writer, tmp_path):
  images = np.stack(
    [np.full((2, 2, 3), v, np.float32) for v in (-1.0, 0.0, 3.0)]
  )
  sheet = metrics.tile(images, 2)
  assert sheet.shape == (4, 4, 3)
  corners = [sheet[0, 0, 0], sheet[0, 3, 0], sheet[3, 0, 0], sheet[3, 3, 0]]
  assert corners == [0, 128, 255, 255]
  writer.image("train", 7, sheet)
  with Image.open(tmp_path / "samples" / "train_0000007.png") as image:
    np.testing.assert_array_equal(np.asarray(image), sheet)


def test_pauses_do_not_count(writer, tmp_path, monkeypatch):
  """Neither does the wait of a pause for the step before it."""
  clock = [100.0]
  monkeypatch.setattr(metrics.time, "monotonic", lambda: clock[0])
  writer.push(1, {"loss": jnp.float32(1)}, work=WORK)
  with writer.paused():
    pass
  for step in (2, 3, 4):
    clock[0] += 1.0
    writer.push(step, {"loss": jnp.float32(1)}, work=WORK)
    with writer.paused():
      clock[0] += 50.0
  line = json.loads((tmp_path / "metrics.jsonl").read_text().splitlines()[1])
  assert line["step"] == 4 and line["step_seconds"] == pytest.approx(1.0)


def test_boards_get_what_is_written(tmp_path, monkeypatch):
  """Weights & Biases, which is no requirement, stands for all."""
  run = mock.Mock()
  fake = types.SimpleNamespace(
    init=mock.Mock(return_value=run), Image=lambda pixels: pixels.tolist()
  )
  monkeypatch.setitem(sys.modules, "wandb", fake)
  with metrics.Writer(
    tmp_path,
    steps=10,
    log_every=1,
    wandb_project="views",
    config={"seed": 3},
  ) as made:
    made.scalars(7, {"loss": 2.0})
    made.image("train", 7, np.zeros((1, 1, 3), np.uint8))
  settings = fake.init.call_args.kwargs
  assert settings["project"] == "views" and settings["config"] == {"seed": 3}
  assert settings["id"] == (tmp_path / "wandb_id").read_text()
  assert run.log.call_args_list[0] == mock.call({"loss": 2.0}, step=7)
  assert run.log.call_args_list[1] == mock.call(
    {"train": [[[0, 0, 0]]]}, step=7
  )
  run.finish.assert_called_once_with()


def test_rates_are_of_what_each_step_did(writer, tmp_path):
  """Steps on single images do less than those on views."""
  single = metrics.Work(examples=1, images=1, flops=1.0)
  writer.push(1, {"loss": jnp.float32(1)}, work=WORK)
  writer.push(2, {"loss": jnp.float32(1)}, work=single)
  writer.flush()
  line = json.loads((tmp_path / "metrics.jsonl").read_text())
  seconds = 2 * line["step_seconds"]
  assert line["images_per_second"] == pytest.approx(4 / seconds)
  assert line["mfu"] == pytest.approx(6.0 / 50.0 / seconds)


def test_a_run_is_known_by_its_workdir_and_not_by_its_name(
  tmp_path, monkeypatch
):
  """Two folders called `run`, the first of which goes on later."""
  fake = types.SimpleNamespace(init=mock.Mock(), Image=None)
  monkeypatch.setitem(sys.modules, "wandb", fake)
  for parent in ("one", "two", "one"):
    workdir = tmp_path / parent / "run"
    workdir.mkdir(parents=True, exist_ok=True)
    with metrics.Writer(
      workdir,
      steps=1,
      log_every=1,
      wandb_project="views",
    ):
      pass
  first, second, again = (
    call.kwargs["id"] for call in fake.init.call_args_list
  )
  assert first == again != second


def test_unknown_devices_have_no_share_of_their_peak():
  work = metrics.Work(examples=2, images=8, flops=1e12)
  assert "mfu" not in work.rates(0.5, peak_flops=None)
  assert work.rates(0.5, peak_flops=None)["examples_per_second"] == 4
