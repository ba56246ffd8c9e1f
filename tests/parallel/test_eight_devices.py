"""The same numbers on one device and on eight, however they are arranged."""

import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest

from tests.parallel import eight_devices

ROOT = pathlib.Path(__file__).parents[2]
pytestmark = pytest.mark.multidevice


@pytest.fixture(scope="module")
def run(tmp_path_factory):
  """What the program computed, and its messages."""
  out = tmp_path_factory.mktemp("eight")
  done = subprocess.run(
    [sys.executable, "-m", "tests.parallel.eight_devices", str(out)],
    cwd=ROOT,
    env=os.environ | {"JAX_NUM_CPU_DEVICES": "8"},
    capture_output=True,
    text=True,
  )
  assert done.returncode == 0, done.stderr
  with np.load(out / "results.npz") as results:
    return {**results}, done.stderr


def step(results, sizes, parts):
  prefix = f"step {sizes} {parts} "
  return {
    name.removeprefix(prefix): value
    for name, value in results.items()
    if name.startswith(prefix)
  }


@pytest.mark.parametrize("sizes, parts", eight_devices.STEPS[1:], ids=str)
def test_loss_and_gradients_are_those_of_one_device(run, sizes, parts):
  results, _ = run
  found = step(results, sizes, parts)
  expected = step(results, *eight_devices.ONE)
  for name in ("loss", "gradient_norm"):
    np.testing.assert_allclose(found[name], expected[name], rtol=1e-5)
  largest = np.abs(expected["gradients"]).max()
  assert largest > 0
  np.testing.assert_allclose(
    found["gradients"], expected["gradients"], atol=1e-5 * largest
  )


def test_devices_share_state_and_batch(run):
  """All but biases and norms is divided by `fsdp`, batches by all devices."""
  results, _ = run
  whole = step(results, *eight_devices.ONE)
  for sizes, parts in eight_devices.STEPS:
    part = step(results, sizes, parts)
    ratio = part["state_bytes"] / whole["state_bytes"]
    assert 1 / sizes[1] <= ratio < 1 / sizes[1] + 0.03
    assert part["batch_bytes"] == whole["batch_bytes"] / np.prod(sizes)


@pytest.mark.parametrize("sizes, parts", eight_devices.STEPS, ids=str)
def test_no_device_holds_more_than_its_part(run, sizes, parts):
  """Nor does the first, through which whole models once went."""
  found = step(run[0], sizes, parts)
  part = found["state_bytes"] + found["frozen_bytes"]
  assert found["live_bytes"].shape == (np.prod(sizes),)
  np.testing.assert_allclose(found["live_bytes"], part, rtol=0.01)


@pytest.mark.parametrize("devices, count", eight_devices.SAMPLES[1:], ids=str)
def test_samples_are_those_of_one_device(run, devices, count):
  results, _ = run
  found = results[f"sample {devices} {count}"].astype(int)
  expected = results[f"sample 1 {count}"].astype(int)
  assert found.shape == expected.shape == (count, 4, 16, 16, 3)
  assert expected.std() > 1
  assert np.abs(found - expected).max() <= 1


def test_nothing_is_repeated_to_be_divided_anew(run):
  """The compiler's word for an array that it gathers for want of a way."""
  _, messages = run
  assert "rematerialization" not in messages
