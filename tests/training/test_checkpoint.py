"""Checkpoints keep what they were given and refuse what does not fit."""

import shutil
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from etils import epath

from mvjax.training import checkpoint, state
from tests.training import small


def test_newest_are_kept_and_read_back(tmp_path):
  with checkpoint.Checkpoints(tmp_path, keep=2) as checkpoints:
    for step in (1, 2, 3):
      state = {"w": jnp.full(4, step, jnp.float32), "n": jnp.int32(step)}
      checkpoints.save(step, state, record={"positions": {"main": step}})
  with checkpoint.Checkpoints(tmp_path, keep=2) as checkpoints:
    assert checkpoints.latest == 3
    assert checkpoints.record() == {"positions": {"main": 3}}
    loaded = checkpoints.load({"w": jnp.zeros(4), "n": jnp.int32(0)})
  np.testing.assert_array_equal(loaded["w"], 3.0)
  assert sorted(p.name for p in tmp_path.iterdir()) == ["2", "3"]


def test_the_average_alone_is_read_into_host_memory(tmp_path):
  params = {"w": jnp.arange(4.0), "b": jnp.ones((), jnp.bfloat16)}
  made = state.create(params, optax.adam(0.1))
  made = made.replace(ema=jax.tree.map(lambda x: x + 1, params))
  with checkpoint.Checkpoints(tmp_path, keep=1) as checkpoints:
    checkpoints.save(5, made, record={})
  shapes = jax.eval_shape(lambda: made)
  with checkpoint.Checkpoints(tmp_path, keep=1, writes=False) as checkpoints:
    before = len(jax.live_arrays())
    average = checkpoints.load_average(shapes)
    assert len(jax.live_arrays()) == before
  for name, leaf in average.items():
    assert type(leaf) is np.ndarray and leaf.dtype == params[name].dtype
  np.testing.assert_array_equal(average["w"], [1.0, 2.0, 3.0, 4.0])
  np.testing.assert_array_equal(average["b"], 2.0)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
  """A folder with the checkpoints of steps 1 and 2."""
  folder = tmp_path_factory.mktemp("written") / "checkpoints"
  with checkpoint.Checkpoints(folder, keep=2) as checkpoints:
    for step in (1, 2):
      checkpoints.save(step, small.state_of(step), record={"step": step})
  return folder


def files_of(folder):
  return sorted(
    str(path.relative_to(folder / "2"))
    for path in (folder / "2").rglob("*")
    if path.is_file()
  )


@pytest.mark.parametrize("harm", ["truncated", "removed"])
def test_a_damaged_checkpoint_is_passed_over_and_set_aside(
  written, tmp_path, capsys, harm
):
  """Whichever file it is that was harmed."""
  names = files_of(written)
  assert checkpoint.LISTING in names and len(names) > 5
  for index, name in enumerate(names):
    if name == checkpoint.LISTING:
      continue  # then Orbax alone vouches for it
    folder = tmp_path / str(index) / "checkpoints"
    shutil.copytree(written, folder)
    path = folder / "2" / name
    if harm == "removed":
      path.unlink()
    else:
      path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    for writes in (False, True):
      with checkpoint.Checkpoints(folder, keep=2, writes=writes) as found:
        assert found.latest == 1
        assert found.record() == {"step": 1}
        loaded = found.load(small.state_of(0))
      message = capsys.readouterr().out
      assert f"checkpoint 2 in {folder} is damaged: " in message
    np.testing.assert_array_equal(loaded["w"], small.state_of(1)["w"])
    aside = folder.with_name("checkpoints-damaged")
    assert [p.name for p in aside.iterdir()] == ["0-step-2"]
    with checkpoint.Checkpoints(folder, keep=2) as again:
      again.save(2, small.state_of(2), record={"step": 2})
      assert capsys.readouterr().out == ""
    assert not checkpoint.damage(epath.Path(folder / "2"))


def test_files_are_listed_before_the_next_checkpoint(tmp_path):
  """A process that is killed meanwhile leaves a listing behind."""
  with checkpoint.Checkpoints(tmp_path, keep=1) as checkpoints:
    checkpoints.save(1, small.state_of(1), record={})
    end = time.monotonic() + 120
    while not (tmp_path / "1" / checkpoint.LISTING).exists():
      assert time.monotonic() < end
      time.sleep(0.01)
    assert not checkpoint.damage(epath.Path(tmp_path / "1"))


def unlisted(written, folder):
  """As a process leaves it that is killed before it lists the files of 2."""
  shutil.copytree(written, folder)
  (folder / "2" / checkpoint.LISTING).unlink()
  return folder


@pytest.mark.parametrize("left", [None, checkpoint.LISTING, ".files.json"])
def test_an_unlisted_checkpoint_is_read_once_and_used(
  written, tmp_path, capsys, left
):
  """Also where it was killed, or lost its power, while it wrote the list."""
  folder = unlisted(written, tmp_path / "checkpoints")
  if left:
    (folder / "2" / left).write_text('{"_CHECK')
  for writes, reads in ((False, True), (True, True), (True, False)):
    with checkpoint.Checkpoints(folder, keep=2, writes=writes) as found:
      assert found.latest == 2
      loaded = found.load(small.state_of(0))
    np.testing.assert_array_equal(loaded["w"], small.state_of(2)["w"])
    assert ("are read to check" in capsys.readouterr().out) == reads


def test_an_unlisted_and_damaged_checkpoint_is_passed_over(
  written, tmp_path, capsys
):
  """Whichever file it is, or nothing that matters is lost."""
  passed_over = set()
  for index, name in enumerate(files_of(written)):
    if name == checkpoint.LISTING:
      continue
    folder = unlisted(written, tmp_path / str(index) / "checkpoints")
    path = folder / "2" / name
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with checkpoint.Checkpoints(folder, keep=2) as found:
      step = found.latest
      loaded = found.load(small.state_of(0))
      assert found.record() == {"step": step}
    np.testing.assert_array_equal(loaded["w"], small.state_of(step)["w"])
    message = f"checkpoint 2 in {folder} is damaged: "
    assert (message in capsys.readouterr().out) == (step == 1)
    if step == 1:
      passed_over.add(path.name if path.parent.name != "d" else "d")
  assert {"d", "manifest.ocdbt", "_METADATA"} <= passed_over


def test_a_half_written_checkpoint_does_not_count(written, tmp_path):
  """Orbax gives a checkpoint its name when it is complete."""
  folder = tmp_path / "checkpoints"
  shutil.copytree(written, folder)
  (folder / "2").rename(folder / "2.orbax-checkpoint-tmp")
  with checkpoint.Checkpoints(folder, keep=2) as found:
    assert found.latest == 1
    np.testing.assert_array_equal(
      found.load(small.state_of(0))["w"], small.state_of(1)["w"]
    )
    found.save(2, small.state_of(2), record={})
  with checkpoint.Checkpoints(folder, keep=2) as found:
    assert found.latest == 2


def test_without_any_sound_checkpoint_nothing_starts_anew(written, tmp_path):
  folder = tmp_path / "checkpoints"
  shutil.copytree(written, folder)
  for step in ("1", "2"):
    (folder / step / "_CHECKPOINT_METADATA").unlink()
  with pytest.raises(ValueError, match="all checkpoints are damaged"):
    checkpoint.Checkpoints(folder, keep=2)
  assert sorted(p.name for p in folder.iterdir()) == ["1", "2"]


def test_donated_buffers_may_change_while_they_are_written(tmp_path):
  negative = jax.jit(jnp.negative, donate_argnums=0)
  with checkpoint.Checkpoints(tmp_path, keep=1) as checkpoints:
    for step in range(3):
      array = jax.random.normal(jax.random.key(step), (512, 512))
      expected = np.array(array)
      checkpoints.save(step, {"w": array}, record={})
      jax.block_until_ready(negative(array))
  with checkpoint.Checkpoints(tmp_path, keep=1) as checkpoints:
    loaded = checkpoints.load({"w": jnp.zeros((512, 512))})
  np.testing.assert_array_equal(loaded["w"], expected)


def test_some_are_kept_for_good(tmp_path):
  with checkpoint.Checkpoints(tmp_path, keep=1, keep_every=2) as checkpoints:
    for step in range(1, 6):
      checkpoints.save(step, {"n": jnp.int32(step)}, record={})
  assert sorted(p.name for p in tmp_path.iterdir()) == ["2", "4", "5"]
