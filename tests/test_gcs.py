"""gs:// paths, through the real clients and a server on loopback."""

import json

import fsspec
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from etils import epath

from data_pipeline import build, loader, shards
from mvjax import storage
from mvjax.training import checkpoint, loop, publish
from mvjax.training.tasks import registry
from tests import fake_gcs
from tests.data_pipeline import fake_renders
from tests.training import several, small, toy

PARTS = 2


@pytest.fixture(scope="module")
def served():
  """The server, of which the clients keep the address."""
  with fake_gcs.serve() as server, pytest.MonkeyPatch.context() as patch:
    for name, value in server.environment.items():
      patch.setenv(name, value)
    # As `commands.environment` does.
    patch.setitem(fsspec.config.conf, "gcs", {"use_listings_cache": False})
    yield server


@pytest.fixture(scope="module")
def renders(tmp_path_factory):
  return fake_renders.write(tmp_path_factory.mktemp("gcs") / "renders")


def build_parts(renders, out):
  return [
    build.build_renders(
      renders, out, shard=shards.Shard(index=index, count=PARTS)
    ).folder
    for index in range(PARTS)
  ]


def settings(path):
  return loader.LoaderSettings(
    path=str(path), looks=("simplified",), batch_size=2, num_views=2
  )


@pytest.fixture(scope="module")
def data(served, renders, tmp_path_factory):
  """The same data set on gs:// and on a disk."""
  local = tmp_path_factory.mktemp("gcs") / "data"
  build_parts(renders, local)
  build_parts(renders, "gs://bucket/data")
  return "gs://bucket/data", local


def test_a_data_set_is_copied_whole(served, data):
  address, local = data
  found = {
    path: content
    for path, (content, _) in served.objects.items()
    if path.startswith("bucket/data/")
  }
  names = {str(p.relative_to(local)) for p in storage.files(epath.Path(local))}
  assert {path.removeprefix("bucket/data/") for path in found} == names
  for home in shards.folders(address):
    own = [
      path for path in served.order if f"gs://{path}".startswith(str(home))
    ]
    assert own.index(f"{str(home)[5:]}/{shards.INFO}") == len(own) - 1 > 1


def test_what_was_copied_in_part_is_no_data_set(served, renders):
  out = "gs://bucket/broken"
  first, _ = build_parts(renders, out)
  count = len(served.order)
  build_parts(renders, out)
  assert len(served.order) == count  # both are there
  (first / shards.INFO).unlink()
  with pytest.raises(ValueError, match="1 of 2 parts are missing"):
    shards.folders(out)
  build_parts(renders, out)
  assert [home.parent.parent.name for home in shards.folders(out)] == [
    "00000-of-00002",
    "00001-of-00002",
  ]


def test_batches_are_those_of_a_disk(data):
  remote, local = (next(loader.batches(settings(path), 3)) for path in data)
  jax.tree.map(np.testing.assert_array_equal, remote, local)
  fingerprints = [loader.fingerprint(settings(path)) for path in data]
  assert fingerprints[0] == fingerprints[1]


def test_checkpoints_are_kept_and_read_back(served):
  folder = "gs://bucket/run/checkpoints"
  with checkpoint.Checkpoints(folder, keep=2) as made:
    for step in (1, 2, 3):
      made.save(step, small.state_of(step), record={"step": step})
  with checkpoint.Checkpoints(folder, keep=2) as made:
    assert made.latest == 3 and made.record() == {"step": 3}
    loaded = made.load({"w": jnp.zeros((64, 64))})
  np.testing.assert_array_equal(loaded["w"], small.state_of(3)["w"])
  names = {path.split("/")[3] for path in served.objects if "/run/" in path}
  assert names == {"2", "3"}


def test_a_damaged_checkpoint_is_passed_over_and_set_aside(served, capsys):
  folder = "gs://bucket/damaged/checkpoints"
  with checkpoint.Checkpoints(folder, keep=2) as made:
    for step in (1, 2):
      made.save(step, small.state_of(step), record={"step": step})
  home = "bucket/damaged/checkpoints/2/"
  lost = next(path for path in served.objects if f"{home}state/d/" in path)
  listing = json.loads(served.objects[f"{home}{checkpoint.LISTING}"][0])
  assert lost.removeprefix(home) in listing  # TensorStore wrote it
  served.remove(lost)
  with checkpoint.Checkpoints(folder, keep=2) as made:
    assert made.latest == 1
    loaded = made.load({"w": jnp.zeros((64, 64))})
  np.testing.assert_array_equal(loaded["w"], small.state_of(1)["w"])
  assert f"checkpoint 2 in {folder} is damaged" in capsys.readouterr().out
  aside = epath.Path(folder).parent / "checkpoints-damaged"
  assert [path.name for path in aside.iterdir()] == ["0-step-2"]


def test_what_killed_processes_left(served, capsys):
  """1 lacks the list of its files; 2, half-written, is not worth a word."""
  folder, home = "gs://bucket/killed/checkpoints", "bucket/killed/checkpoints/"
  with checkpoint.Checkpoints(folder, keep=2) as made:
    for step in (1, 2):
      made.save(step, small.state_of(step), record={"step": step})
  for name in ("1/files.json", "2/files.json", "2/commit_success.txt"):
    served.remove(home + name)
  with checkpoint.Checkpoints(folder, keep=2) as made:
    assert made.latest == 1
    loaded = made.load({"w": jnp.zeros((64, 64))})
  np.testing.assert_array_equal(loaded["w"], small.state_of(1)["w"])
  printed = capsys.readouterr().out
  assert f"{folder}/1 has no files.json" in printed
  assert f"{folder}/2" not in printed and "damaged" not in printed
  assert f"{home}1/files.json" in served.objects


def test_a_run_goes_on_and_is_published_from_there(
  served, tmp_path, monkeypatch
):
  monkeypatch.setattr(registry, "make", toy.make)
  for steps in (2, 3):
    config = several.config(1, 0, 0, "")
    with config.unlocked():
      config.optimizer.schedule = "constant"
      config.optimizer.warmup_steps = 1
      config.train.update(
        checkpoint_dir="gs://bucket/trained",
        steps=steps,
        profile_at=0,
        validation_every=0,
      )
    assert int(loop.train(config, tmp_path / "run").step) == steps
  assert not (tmp_path / "run" / "checkpoints").exists()
  (tmp_path / "out").mkdir()
  publish.publish(tmp_path / "run", tmp_path / "out")
  found = json.loads((tmp_path / "out" / "training.json").read_text())
  assert [leg["first_step"] for leg in found["legs"]] == [0, 2]
  assert found["positions"] == {"main": 3}


@pytest.mark.parametrize(
  "path, expected",
  [
    ("gs://bucket/run", True),
    ("gs:/bucket/run", True),  # what pathlib makes of it
    ("runs/a", False),
    ("/data/run-2:/x", False),
  ],
)
def test_addresses_are_told_from_paths(path, expected):
  assert storage.is_address(path) == expected
