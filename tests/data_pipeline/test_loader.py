import dataclasses
import json
import multiprocessing
import os
import pathlib
import signal
import subprocess
import sys
import time

import fake_renders
import jax
import numpy as np
import pytest

from configs import base
from data_pipeline import build, loader
from mvjax.training import data


@pytest.fixture(scope="module")
def path(tmp_path_factory):
  root = tmp_path_factory.mktemp("loader")
  objects = fake_renders.read(fake_renders.write(root / "renders"))
  return str(build.build(objects, root / "out").folder)


def settings(folder, **changes):
  defaults = {"path": folder, "looks": ("simplified",), "batch_size": 4}
  return loader.LoaderSettings(**{**defaults, **changes})


def equal(a, b):
  assert a.keys() == b.keys()
  for key in a:
    if isinstance(a[key], dict):
      equal(a[key], b[key])
    else:
      np.testing.assert_array_equal(a[key], b[key])


def stack(parts):
  """Concatenates the batches of several processes."""
  return {
    key: stack([part[key] for part in parts])
    if isinstance(parts[0][key], dict)
    else np.concatenate([part[key] for part in parts])
    for key in parts[0]
  }


def test_a_batch_shows_what_was_rendered(path):
  batch = next(loader.batches(settings(path, batch_size=4)))
  image, alpha, depth = batch["image"], batch["alpha"], batch["depth"]
  assert image.shape == (4, 4, 16, 16, 3) and image.dtype == np.float32
  assert alpha.shape == depth.shape == (4, 4, 16, 16)
  np.testing.assert_array_equal(image[alpha == 0], 1)  # white
  assert not depth[alpha == 0].any() and (depth[alpha == 1] > 1.9).all()
  camera, _ = fake_renders.rig()
  # Blue and depth both tell the view; the camera must be that view's.
  view = np.rint((image[:, :, 8, 8, 2] + 1) * 127.5 / 20).astype(int)
  np.testing.assert_allclose(depth[:, :, 8, 8], 2 + 0.1 * view, atol=1e-3)
  np.testing.assert_allclose(
    batch["camera"]["camera_to_world"],
    np.asarray(camera.camera_to_world)[view],
    atol=1e-6,
  )
  assert batch["camera"]["intrinsics"].shape == (4, 4, 3, 3)
  red = np.rint((image[:, 0, 8, 8, 0] + 1) * 127.5 / 40).astype(int)
  assert [f"object_{o}" for o in red] == batch["uid"].tolist()
  for uid, caption in zip(batch["uid"], batch["caption"], strict=True):
    name = fake_renders.NAMES[int(uid[-1])]
    assert caption in (f"{name} None 0", f"{name} None 1")


@pytest.mark.parametrize("processes", [2, 4])
def test_the_global_batch_does_not_depend_on_the_processes(path, processes):
  whole = loader.dataset(settings(path, crop=8))
  parts = [
    loader.dataset(
      settings(path, crop=8, process_index=p, process_count=processes)
    )
    for p in range(processes)
  ]
  for step in (0, 1, 7):
    equal(whole[step], stack([part[step] for part in parts]))


@pytest.mark.parametrize("workers", [0, 2])
def test_resuming_continues_exactly_in_spite_of_preparing_ahead(path, workers):
  chosen = settings(path)
  whole = loader.dataset(chosen)
  how = dataclasses.replace(chosen, threads=1, prefetch=1, workers=workers)
  for position in (0, 3):
    resumed = loader.batches(how, position)
    for step in range(position, position + 3):
      equal(next(resumed), whole[step])


def test_workers_survive_the_signal_that_a_training_survives(path):
  """And end when the iterator is closed; grain kills after 25 s."""
  iterator = loader.batches(settings(path, workers=1, threads=1))
  equal(next(iterator), loader.dataset(settings(path))[0])
  (worker,) = multiprocessing.active_children()
  os.kill(worker.pid, signal.SIGTERM)
  for step in range(1, 6):  # more than were prepared
    equal(next(iterator), loader.dataset(settings(path))[step])
  iterator.close()
  assert worker.exitcode == 0


def test_workers_end_with_a_parent_that_was_killed(path):
  program = (
    "import multiprocessing, os, signal\n"
    "from data_pipeline import loader\n"
    "if __name__ == '__main__':\n"
    "  settings = loader.LoaderSettings(\n"
    f"    path={path!r}, looks=('simplified',), batch_size=4, workers=1\n"
    "  )\n"
    "  iterator = loader.batches(settings)\n"
    "  next(iterator)\n"
    "  (worker,) = multiprocessing.active_children()\n"
    "  print(worker.pid, flush=True)\n"
    "  os.kill(os.getpid(), signal.SIGKILL)\n"
  )
  root = pathlib.Path(__file__).parents[2]
  done = subprocess.run(
    [sys.executable, "-c", program],
    cwd=root,
    stdout=subprocess.PIPE,
    text=True,
    check=False,
    timeout=300,
  )
  assert done.returncode == -signal.SIGKILL
  end = time.monotonic() + 60
  while is_running(int(done.stdout)):
    assert time.monotonic() < end
    time.sleep(0.05)


def is_running(pid):
  """Whether there is such a process; a dead one may wait for its parent."""
  try:
    state = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2]
  except FileNotFoundError:
    return False
  return state.split()[0] != "Z"


def test_a_process_reads_its_own_share_only(path, monkeypatch):
  read = []
  get = loader._Records.__getitem__

  def counted(self, index):
    read.append(index)
    return get(self, index)

  monkeypatch.setattr(loader._Records, "__getitem__", counted)
  share = loader.dataset(settings(path, process_index=1, process_count=4))
  for step in (5, 6):
    share[step]
  assert len(read) == 2  # batches of 4, over 4 processes


def test_every_epoch_shows_every_record_once_in_another_order(path):
  one = settings(path, batch_size=1, num_views=1)
  count = len(loader.eligible(one))
  data = loader.dataset(one)
  epochs = [
    [str(data[epoch * count + i]["uid"][0]) for i in range(count)]
    for epoch in range(6)
  ]
  assert all(sorted(epoch) == sorted(set(epochs[0])) for epoch in epochs)
  assert len({tuple(epoch) for epoch in epochs}) > 1
  other = loader.dataset(dataclasses.replace(one, seed=1))
  assert any((other[i]["uid"] != data[i]["uid"]).any() for i in range(8))


def test_held_out_pairs_are_kept_from_those_who_must_not_see_them(path):
  looks = ("retextured",)
  found = {}
  for policy in loader.HELD_OUT_PAIRS:
    chosen = settings(path, looks=looks, held_out_pairs=policy)
    rows = loader.records(chosen)
    found[policy] = [
      (
        row["uid"],
        (row["name"].decode().casefold(), row["material"].decode()),
        row["seen_by_image_model"],
      )
      for row in rows
    ]
  held_out = fake_renders.HELD_OUT_PAIRS
  assert {row[1] for row in found["only"]} == held_out
  assert not {row[1] for row in found["exclude"]} & held_out
  seen = [row for row in found["only"] if row[2]]
  assert sorted(found["seen_by_image_model"]) == (
    sorted(found["exclude"] + seen)
  )


def test_splits_share_no_object(path):
  uids = {
    split: {row["uid"] for row in loader.records(settings(path, split=split))}
    for split in ("train", "held_out_objects")
  }
  assert not uids["train"] & uids["held_out_objects"]
  assert sum(map(len, uids.values())) == 6


def test_view_words_name_the_side_that_is_seen(path):
  data = loader.dataset(
    settings(path, num_views=1, view_words=0.5, batch_size=64)
  )
  batch = data[0]
  words = [
    caption.rsplit(", ", 1)[1].removesuffix(" view")
    if "view" in caption
    else ""
    for caption in batch["caption"]
  ]
  assert 0.3 < np.mean([bool(word) for word in words]) < 0.7
  x, y = batch["camera"]["camera_to_world"][:, 0, :2, 3].T
  degrees = np.abs(np.degrees(np.arctan2(y, x)))
  limits = {
    "front": (0, 45),
    "side": (45, 135),
    "back": (135, 180),
    "": (0, 180),
  }
  for word, angle in zip(words, degrees, strict=True):
    low, high = limits[word]
    assert low <= angle <= high


def test_sizes_follow_the_settings(path):
  small = loader.dataset(settings(path, image_size=8))[0]
  assert small["image"].shape == (4, 4, 8, 8, 3)
  crops = loader.dataset(settings(path, num_views=1, crop=4))[0]
  assert crops["alpha"].shape == (4, 1, 4, 4)
  assert crops["alpha"].any((1, 2, 3)).all()


def test_fingerprint_ignores_place_and_processes_and_little_else(path):
  one = settings(path)
  first = loader.fingerprint(one)
  two = dataclasses.replace(one, process_index=1, process_count=2, threads=1)
  loader.check_fingerprint(json.loads(json.dumps(first)), first)
  loader.check_fingerprint(first, loader.fingerprint(two))
  assert first["records"] > first["eligible_records"] > 0
  changed = dataclasses.replace(one, seed=3, crop=8)
  with pytest.raises(ValueError, match="crop: was None, is 8; seed: was 0"):
    loader.check_fingerprint(first, loader.fingerprint(changed))


@pytest.mark.parametrize(
  "changes, message",
  [
    ({"batch_size": 6, "process_count": 4}, "process_count must divide"),
    ({"view_words": 0.5}, "view_words needs num_views=1"),
    ({"orthogonal": 0.9, "nearby": 0.9}, "must not exceed 1"),
    ({"held_out_pairs": "some"}, "exclude, only, seen_by_image_model"),
  ],
)
def test_bad_settings_are_explained(path, changes, message):
  with pytest.raises(ValueError, match=message):
    settings(path, **changes)


@pytest.mark.parametrize(
  "changes, message",
  [
    ({"path": "nowhere"}, "path=nowhere: no data set"),
    ({"split": "test"}, "split=test: .* has train"),
    ({"looks": ("shiny",)}, "retextured"),
    ({"num_views": 8}, "no more than 4 .orbit"),
    ({"num_views": 99, "orthogonal": 0.0, "nearby": 0.0}, "no more than 12"),
  ],
)
def test_requests_that_the_data_cannot_meet_are_explained(
  path, changes, message
):
  with pytest.raises(ValueError, match=message):
    loader.dataset(settings(path, **changes))


def test_rows_of_training_batches_are_those_of_whole_ones(path):
  """As hosts of a pod load them: a part, or rows that lie apart."""
  config = base.get_config().data
  with config.unlocked():
    config.update(path=path, looks=("simplified",), num_views=2, image_size=16)
  stream = data.open_stream(config, batch_size=4, seed=3)
  whole = next(stream.start(2))
  for rows in ([2, 3], [1], [0, 3]):
    part = next(stream.start(2, rows))
    equal(part, jax.tree.map(lambda leaf, rows=rows: leaf[rows], whole))
