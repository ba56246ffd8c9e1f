"""Autoencoder to 2D model to multi-view model, each from published folders."""

import functools
import json
import pathlib
import shutil
import signal
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mvjax import geometry, scores
from mvjax.models import epipolar_mv, stable_diffusion
from mvjax.training import checkpoint, data, loop, publish, record
from mvjax.training.tasks import registry
from mvjax.weights import checkpoint as weights
from tests.training import small

STEPS = 2
# Dies as its second step begins, once there is a checkpoint of the first.
KILLED = """
import os, signal, sys, time
from mvjax.training import loop, program
from tests.training import small

previous, workdir = sys.argv[1:]
step = program.Run.step

def killed(run, kind, state, batch):
  while int(state.step) == 1:
    if small.checkpoint_steps(workdir):
      os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(0.01)
  return step(run, kind, state, batch)

program.Run.step = killed
loop.train(
  small.leg("multiview", previous, checkpoint_minutes=1e-6), workdir
)
"""


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
  """A published folder per task, each started from the one before."""
  home, made, previous = tmp_path_factory.mktemp("chain"), {}, ""
  for task in ("vae", "image", "multiview"):
    config = small.leg(task, previous)
    if task == "vae":
      config.train.checkpoint_dir = str(home / "elsewhere")
    loop.train(config, home / task)
    made[task] = previous = publish.publish(
      home / task, home / "published" / task
    )
    assert (home / task / "samples" / f"train_{STEPS:07d}.png").is_file()
  return made


def test_legs_are_chained(folders):
  record = json.loads((folders["multiview"] / "training.json").read_text())
  tasks = [leg["task"] for leg in record["legs"]]
  assert tasks == ["vae", "image", "multiview"]
  assert record["positions"] == {"main": STEPS}


def test_a_killed_run_goes_on_exactly(folders, tmp_path):
  """Of all tasks the one that draws most, from weights that it began with."""
  code = subprocess.call(
    [sys.executable, "-c", KILLED, str(folders["image"]), str(tmp_path)],
    cwd=pathlib.Path(__file__).parents[2],
    timeout=300,
  )
  assert code == -signal.SIGKILL
  assert small.checkpoint_steps(tmp_path) == [1]
  final = loop.train(small.leg("multiview", folders["image"]), tmp_path)
  assert int(final.step) == STEPS
  whole = folders["multiview"].parents[1] / "multiview/checkpoints"
  with checkpoint.Checkpoints(whole, keep=1, writes=False) as undisturbed:
    expected = undisturbed.load(final)
  jax.tree.map(np.testing.assert_array_equal, final, expected)


def test_checkpoints_may_lie_elsewhere(folders):
  """Where they were trained to is where they are published from."""
  home = folders["vae"].parents[1]
  assert (home / "elsewhere" / str(STEPS)).is_dir()
  assert not (home / "vae" / "checkpoints").exists()
  with pytest.raises(
    ValueError, match="no checkpoints in .*checkpoints, train"
  ):
    publish.publish(home / "published", home / "nothing")


def test_published_latents_have_variance_one(folders):
  model = stable_diffusion.FlaxStableDiffusion.load(folders["image"])
  stream = data.open_stream(small.config("vae").data, batch_size=64, seed=9)
  images = jnp.asarray(next(stream.start(0))["image"][:, 0])
  encode = jax.jit(functools.partial(model.vae.apply, method="encode"))
  mean, log_variance = encode({"params": model.params["vae"]}, images)
  variance = np.var(mean) + np.exp(log_variance).mean()
  assert model.scaling_factor**2 * variance == pytest.approx(1.0, abs=0.1)


def test_the_multiview_folder_loads_as_both_models(folders):
  """Its epipolar blocks do something, and its 2D part is a 2D model."""
  multiview = epipolar_mv.EpipolarMultiview.load(folders["multiview"])
  plain = stable_diffusion.FlaxStableDiffusion.load(folders["multiview"])
  shape = (1, *multiview.latent_shape(2))
  x = jax.random.normal(jax.random.key(0), shape)
  camera = geometry.orbit(
    azimuth=np.array([[0.0, 1.5]]),
    elevation=0.2,
    distance=3.0,
    field_of_view=0.7,
  )
  step = scores.Step(level=plain.schedule.level(500.0), weights={})
  ids = jnp.asarray(plain.tokenizer(["a red ball"]))
  text = jax.jit(plain.encode_text)(plain.params, ids)

  @functools.partial(jax.jit, static_argnums=0)
  def predict(model, params, camera):
    cameras = model.camera_conditioning(camera, *shape[2:4])
    conditioning = scores.Conditioning(text=text, cameras=cameras)
    return model.score(params, x, step, conditioning).x0

  def silent(path, leaf):
    """Blocks whose last projection is what training starts from."""
    return 0 * leaf if is_output(path) else leaf

  params = multiview.params
  silenced = jax.tree_util.tree_map_with_path(silent, params)
  seen, unseen = (predict(multiview, p, camera) for p in (params, silenced))
  assert np.isfinite(predict(plain, plain.params, camera)).all()
  assert np.isfinite(seen).all() and np.abs(seen - unseen).max() > 0


def is_output(path):
  """Whether a parameter is of an epipolar block's last projection."""
  names = [key.key for key in path]
  return "epipolar" in names and "proj_out" in names


def test_epipolar_blocks_left_their_start(folders, tmp_path):
  """At first their last projections are zero, and alone have a gradient."""
  task = make_task(small.leg("multiview", folders["image"]), tmp_path)
  trained = epipolar_mv.EpipolarMultiview.load(folders["multiview"])
  start, end = (
    [
      leaf
      for path, leaf in jax.tree_util.tree_leaves_with_path(params["unet"])
      if is_output(path)
    ]
    for params in (task.params, trained.params)
  )
  assert len(start) == len(end) == 2  # the kernel and the bias of one block
  assert not any(leaf.any() for leaf in start)
  assert all(leaf.any() for leaf in end)


@pytest.mark.parametrize("format", ["orbax", "safetensors"])
def test_a_run_is_exported_in_other_formats(folders, tmp_path, format):
  """The averaged weights that are in the published folder, unrounded."""
  workdir = folders["multiview"].parents[1] / "multiview"
  name = {"orbax": "model", "safetensors": "model.safetensors"}[format]
  out = publish.export(
    workdir, tmp_path / name, format=format, dtype=np.float32
  )
  exported, published = map(
    weights.open_checkpoint, (out, folders["multiview"])
  )
  assert exported.components.keys() == published.components.keys()
  for name, part in published.components.items():
    tensors = exported.components[name].tensors
    assert tensors.keys() == part.tensors.keys()
    for key, tensor in part.tensors.items():
      half = tensors[key].read().astype(np.float16)
      np.testing.assert_array_equal(half, tensor.read(), err_msg=key)
  # A leg that lacks networks is no model for other formats.
  with pytest.raises(FileNotFoundError, match="unet"):
    publish.export(
      folders["multiview"].parents[1] / "vae", tmp_path / "vae", format="orbax"
    )
  assert not (tmp_path / "vae").exists()


@pytest.fixture
def data_is_gone(monkeypatch):
  def gone(*_, **__):
    raise ValueError("path=gone: no data set")

  monkeypatch.setattr(data, "open_stream", gone)


@pytest.mark.parametrize("task", ["image", "multiview"])
def test_export_needs_no_data(folders, tmp_path, data_is_gone, task):
  workdir = folders[task].parents[1] / task
  again = publish.publish(workdir, tmp_path / "again")
  files = [p.relative_to(again) for p in again.rglob("*") if p.is_file()]
  assert any(path.suffix == ".safetensors" for path in files)
  for path in files:
    assert (again / path).read_bytes() == (folders[task] / path).read_bytes()


def test_export_asks_for_data_that_it_needs(folders, tmp_path, data_is_gone):
  """The scale of latents is measured; a lost tokenizer is learnt anew."""
  runs = folders["image"].parents[1]
  with pytest.raises(ValueError, match="path=gone"):
    publish.publish(runs / "vae", tmp_path / "vae")
  lost = tmp_path / "run"
  shutil.copytree(
    runs / "image", lost, ignore=shutil.ignore_patterns("tokenizer")
  )
  with pytest.raises(ValueError, match="path=gone"):
    publish.publish(lost, tmp_path / "image")
  assert not list(tmp_path.glob("*/unet"))


def make_task(config, workdir):
  return registry.make(
    config, workdir=workdir, stream=loop.open_streams(config)["main"]
  )


def test_decoder_alone_is_trained_on_request(folders, tmp_path):
  config = small.config(
    "vae", init_from=str(folders["vae"]), freeze_encoder=True
  )
  task = make_task(config, tmp_path)
  assert set(task.params) == {"decoder", "post_quant_conv"}
  assert set(task.frozen) == {"encoder", "quant_conv"}
  # Its latents stay those that other models were trained on.
  new = tmp_path / "new"
  task.write(task.params, task.frozen, new, dtype=np.float32, batches=iter(()))
  old, written = (
    json.loads((home / "vae/config.json").read_text())["scaling_factor"]
    for home in (folders["vae"], new)
  )
  assert written == old


def test_views_that_are_cut_off_are_trained_as_single_views(folders, tmp_path):
  """With view_dropout=1 a batch's loss is that of its views one by one."""
  config = small.config(
    "multiview", init_from=str(folders["multiview"]), view_dropout=1.0
  )
  task = make_task(config, tmp_path)
  batch = task.prepare(next(loop.open_streams(config)["main"].start(0)))
  rng = np.random.default_rng(0)
  # Blocks that do something: some of their layers start at zero.
  params = jax.tree.map(
    lambda x: x + 0.1 * rng.standard_normal(x.shape, np.float32), task.params
  )
  drawn = task.losses["main"].draw(jax.random.key(0), batch)
  views = batch["image"].shape[1]
  value = jax.jit(task.losses["main"].value)

  def one_view(number):
    """Arrays of views, of examples alone, and of the cameras' two kinds."""

    def pick(x):
      has_views = x.ndim > 1 and x.shape[1] == views
      return x[:, number : number + 1] if has_views else x

    return jax.tree.map(pick, (batch, drawn))

  whole = value(params, batch, drawn, task.frozen)[0]
  single = [value(params, *one_view(i), task.frozen)[0] for i in range(views)]
  assert float(whole) == pytest.approx(float(np.mean(single)), rel=1e-5)
  seen = drawn | {"cut": ~drawn["cut"]}
  assert abs(value(params, batch, seen, task.frozen)[0] - whole) > 1e-4


def test_plain_image_batches_leave_the_epipolar_blocks_alone(folders, tmp_path):
  """Their loss does not depend on any parameter of the blocks."""
  config = small.config(
    "multiview", init_from=str(folders["multiview"]), image_batch_share=0.5
  )
  task = make_task(config, tmp_path)
  batch = task.prepare(next(loop.open_streams(config)["image"].start(0)))
  assert batch["image"].shape[1] == 1
  key = jax.random.key(0)
  plain, added = epipolar_mv.split_params(task.params["unet"])
  # Shapes alone: what is missing would be an error.
  del added
  value, _ = jax.eval_shape(
    task.losses["image"], {"unet": plain}, batch, key, task.frozen
  )
  assert value.shape == ()


def test_a_leg_of_the_same_task_goes_on_in_the_data(folders, tmp_path):
  config = small.config("vae", init_from=str(folders["vae"]))
  fingerprint = {
    name: dict(stream.fingerprint)
    for name, stream in loop.open_streams(config).items()
  }
  with checkpoint.Checkpoints(tmp_path, keep=1) as empty:
    journal = record.Journal(config, fingerprint, weights={}, checkpoints=empty)
    assert journal.positions == {"main": STEPS}
    fingerprint["main"]["seed"] = 7
    journal = record.Journal(config, fingerprint, weights={}, checkpoints=empty)
    assert journal.positions == {"main": 0}


def test_another_architecture_is_refused(folders, tmp_path):
  config = small.config("image", init_from=str(folders["image"]))
  with config.unlocked():
    config.unet.layers_per_block = 2
  with pytest.raises(ValueError, match="layers_per_block=1, not 2"):
    loop.train(config, tmp_path)
