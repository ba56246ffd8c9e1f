"""A run ends in the same state however often it was stopped.

All but one run a toy. Networks that are killed and go on are in `test_chain`,
several processes in `test_several`.
"""

import json
import pathlib
import shutil
import subprocess
import sys
import time

import jax
import numpy as np
import pytest

from mvjax.training import (
  checkpoint,
  data,
  loop,
  metrics,
  publish,
  stopping,
)
from mvjax.training.tasks import registry
from tests.training import small, toy

ROOT = pathlib.Path(__file__).parents[2]
PROGRAM = """
import sys
from mvjax.training import loop
from mvjax.training.tasks import registry
from tests.training import small, toy
registry.make = toy.make
loop.train(small.config("vae", checkpoint_minutes=1e-6), sys.argv[1])
"""


@pytest.fixture
def toys(monkeypatch):
  monkeypatch.setattr(registry, "make", toy.make)


@pytest.fixture
def uninterrupted(toys, tmp_path_factory):
  """The final state of a run that nothing stops, and its workdir."""
  workdir = tmp_path_factory.mktemp("whole")
  return loop.train(small.config("vae"), workdir), workdir


def terminated(workdir):
  """Starts a run in a process and sends it SIGTERM once it has saved."""
  process = subprocess.Popen(
    [sys.executable, "-c", PROGRAM, str(workdir)],
    cwd=ROOT,
    stdout=subprocess.PIPE,
    text=True,
  )
  while not small.checkpoint_steps(workdir) and process.poll() is None:
    time.sleep(0.002)
  process.terminate()
  output, _ = process.communicate()
  assert 0 < small.checkpoint_steps(workdir)[-1] < 8
  return process.returncode, output


def assert_same(one, other):
  jax.tree.map(np.testing.assert_array_equal, one, other)


def test_terminated_run_saves_ends_well_and_goes_on(uninterrupted, tmp_path):
  code, output = terminated(tmp_path)
  assert code == 0 and "stopped at step" in output
  assert_same(loop.train(small.config("vae"), tmp_path), uninterrupted[0])


def test_time_limit_ends_a_leg_and_the_journal_knows(uninterrupted, tmp_path):
  config = small.config("vae", max_minutes=1e-9)
  first = loop.train(config, tmp_path)
  assert int(first.step) == 0
  last = loop.train(small.config("vae"), tmp_path)
  assert_same(last, uninterrupted[0])
  with checkpoint.Checkpoints(tmp_path / "checkpoints", keep=1) as made:
    record = made.record()
  assert [leg["last_step"] for leg in record["legs"]] == [0, 8]
  assert record["positions"] == {"main": 8}


def test_a_run_that_must_end_does_not_validate_first(
  toys, tmp_path, monkeypatch
):
  """The next one does; every line is there once."""
  config = small.config("vae", validation_every=4)

  def lines():
    text = (tmp_path / "metrics.jsonl").read_text()
    rows = [json.loads(line) for line in text.splitlines()]
    return [(row["step"], "loss" in row) for row in rows]

  with monkeypatch.context() as patch:
    patch.setattr(
      stopping.Stopping, "asks", lambda self, step: (step == 4, step == 4)
    )
    loop.train(config, tmp_path)
  begin = [(0, False), *[(step, True) for step in range(1, 5)]]
  assert lines() == begin
  loop.train(config, tmp_path)
  end = [(4, False), *[(step, True) for step in range(5, 9)], (8, False)]
  assert lines() == begin + end


def test_the_folder_of_frozen_weights_may_move_and_may_not_change(
  model_folders, tmp_path
):
  """The encoder of this autoencoder is in no checkpoint of its run."""
  here, there = tmp_path / "here", tmp_path / "there"
  shutil.copytree(model_folders["image"], here)
  config = small.config("vae", init_from=str(here), freeze_encoder=True)
  with config.unlocked():
    config.vae.update(block_out_channels=(8, 16), norm_num_groups=4)
    config.optimizer.update(schedule="constant", warmup_steps=0)
    config.train.steps = 1
  loop.train(config, tmp_path / "run")
  here.rename(there)
  config.train.init_from = str(there)
  config.train.steps = 2
  loop.train(config, tmp_path / "run")
  # Other weights under the same name.
  file = there / "vae/diffusion_pytorch_model.safetensors"
  file.write_bytes(file.read_bytes()[:-2] + b"\0\0")
  with pytest.raises(ValueError, match="cannot resume: .*init_from/vae="):
    loop.train(config, tmp_path / "run")
  with pytest.raises(ValueError, match="init_from=.*there: .*init_from/vae="):
    publish.publish(tmp_path / "run", tmp_path / "published")


def test_other_settings_do_not_resume(uninterrupted):
  config = small.config("vae")
  with config.unlocked():
    config.seed = 1
  with pytest.raises(ValueError, match="seed=0 .now 1"):
    loop.train(config, uninterrupted[1])


def test_bad_numbers_stop_the_run_and_spare_the_checkpoint(
  toys, tmp_path, monkeypatch
):
  make = data._synthetic_batch

  def poisoned(rng, settings):
    batch = make(rng, settings)
    if poisoned.count == 5:
      batch["image"][0] = np.nan
    poisoned.count += 1
    return batch

  poisoned.count = 0
  monkeypatch.setattr(data, "_synthetic_batch", poisoned)
  config = small.config("vae", checkpoint_minutes=1e-6)
  with pytest.raises(metrics.NonFiniteError, match="step 6"):
    loop.train(config, tmp_path)
  assert small.checkpoint_steps(tmp_path)[-1] == 5
