"""Processes that are killed at any time leave what the next one completes."""

import itertools
import json

import numpy as np
import pytest
import tensorstore

from tests.hostile import kills
from tests.hostile.attacks import commands

KILLS = 20
PROMPTS = ("a red leather sofa", "a blue wooden chair", "a side view")
SAMPLE = (
  *(word for word in commands.SAMPLE if not word.startswith("--out")),
  "--prompts=prompts.txt",
  "--score=2d",
  "--batch_size=1",
)
TRAIN = (
  "train",
  "--config=<root>/configs/nano.py:vae,runlocal",
  "--config.train.cpu_devices=0",
  "--config.train.steps=12",
  "--config.train.log_every=1",
  "--config.train.checkpoint_minutes=1e-6",
)
# What takes time is of no sample.
TIMINGS = ("seconds_of_batch", "peak_memory_bytes")


def samples(out):
  """All files of finished samples, without times and the pages about them.

  Drafts that a killed process left have names with a dot in front.
  """
  found = {}
  for path in sorted(out.rglob("*")):
    name = str(path.relative_to(out))
    drafts = any(part.startswith(".") for part in path.relative_to(out).parts)
    pages = path.suffix == ".html" or "page_files" in name
    if path.is_file() and not pages and not drafts:
      found[name] = path.read_bytes()
      if path.name == "sample.json":
        record = json.loads(found[name])
        found[name] = {k: v for k, v in record.items() if k not in TIMINGS}
  return found


def state(workdir):
  """All numbers of the newest checkpoint, and the figures of every step."""
  steps = (workdir / "checkpoints").iterdir()
  step = max(int(path.name) for path in steps if path.name.isdigit())
  folder = workdir / "checkpoints" / str(step) / "state"
  store = {"driver": "ocdbt", "base": f"file://{folder}/"}
  keys = tensorstore.KvStore.open(store).result().list().result()
  arrays = {}
  for key in (key.decode() for key in keys if key.endswith(b"/zarr.json")):
    place = {**store, "path": key.removesuffix("zarr.json")}
    opened = tensorstore.open({"driver": "zarr3", "kvstore": place}).result()
    arrays[key] = opened.read().result().tobytes()
  lines = (workdir / "metrics.jsonl").read_text().splitlines()
  losses = {row["step"]: row["loss"] for row in map(json.loads, lines)}
  return step, arrays, losses


KINDS = {
  "sampling": (SAMPLE, "--out", samples, ""),
  "training": (TRAIN, "--workdir", state, "toy"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_killed_runs_end_like_an_undisturbed_one(launch, scene, kind):
  """Half of the kills fall on a time, half on a change of a file."""
  command, flag, content, stand_in = KINDS[kind]
  scene.write("prompts.txt", "\n".join(PROMPTS))

  def run(out, killing):
    words = scene.command((*command, f"{flag}={out}"))
    count = kills.until_done(
      launch, words, scene.home, kills=killing, stand_in=stand_in
    )
    return count, content(scene.home / out)

  _, whole = run("whole", itertools.repeat(None))
  rng, done = np.random.default_rng(0), 0
  for number in itertools.count():
    count, found = run(f"out-{number}", kills.anywhere(rng, f"out-{number}"))
    assert found == whole
    done += count
    if done >= KILLS:
      break
