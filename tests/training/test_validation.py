"""Configs: every problem at once, and no misspelt field."""

import pytest
from jax.sharding import AbstractMesh, AxisType

from configs import nano
from data_pipeline import build
from mvjax.training import loop, publish, validation
from tests.data_pipeline import fake_renders
from tests.training import small


@pytest.mark.parametrize("task", nano.TASKS)
def test_shipped_configs_are_valid(task):
  config = nano.get_config(task)
  config.train.init_from = "somewhere"
  validation.validate(config)


def test_all_violations_are_listed():
  config = small.config("image")
  with config.unlocked():
    config.train.batch_size = 0
    config.train.caption_dropout = 1.5
    config.optimizer.schedule = "linear"
    config.unet.norm_num_groups = 3
    config.unet.cross_attention_dim = 7
  with pytest.raises(ValueError) as error:
    validation.validate(config)
  for name in (
    "train.batch_size=0",
    "train.caption_dropout=1.5",
    "optimizer.schedule='linear'",
    "unet.norm_num_groups=3",
    "unet.cross_attention_dim=7",
    "train.init_from",
  ):
    assert name in str(error.value)


def test_prefetch_of_the_data_in_use_holds_a_batch_of_every_thread():
  config = small.config("multiview", init_from="somewhere")
  with config.unlocked():
    for section in (config.data, config.image_data):
      section.update(threads=4, prefetch=3)
  with pytest.raises(ValueError, match=" data.threads=4: .* data.prefetch=3"):
    validation.validate(config)
  config.data.prefetch = 4
  validation.validate(config)
  config.train.image_batch_share = 0.5
  with pytest.raises(ValueError, match="image_data.threads=4"):
    validation.validate(config)


def test_unknown_variant_lists_the_known_ones():
  with pytest.raises(ValueError, match="vae, image, multiview"):
    nano.get_config("video")


def test_configs_are_locked():
  with pytest.raises(AttributeError, match="batch_size"):
    nano.get_config("vae").train.batch_sise = 4


def mesh(*sizes):
  axes = ("data", "fsdp", "view")
  return AbstractMesh(sizes, axes, axis_types=(AxisType.Auto,) * 3)


def test_batches_must_divide_over_devices():
  config = small.config("multiview")  # 2 examples of 4 views
  for sizes in ((2, 1, 1), (1, 2, 1), (1, 2, 4), (1, 1, 2)):
    validation.check_devices(config, mesh(*sizes))
  for sizes, message in {
    (4, 1, 1): "batch_size=2 / train.accumulate=1 does not divide",
    (1, 2, 3): "mesh.view=3 does not divide",
    (1, 1, 4): "mesh.view=4 does not divide .* 2 examples of 4 views",
  }.items():
    with pytest.raises(ValueError, match=message):
      validation.check_devices(config, mesh(*sizes))


def test_mesh_sizes_are_among_the_violations():
  config = small.config("vae")
  with config.unlocked():
    config.mesh.fsdp = -1
    config.train.batch_size = 0
  with pytest.raises(ValueError, match="mesh.fsdp=-1: only one.*batch_size=0"):
    validation.validate(config)


def test_a_missing_validation_split_is_refused_before_the_first_step(tmp_path):
  """No name is there twice, so no object could be held out."""
  renders = fake_renders.write(tmp_path / "renders", ("Chair", "Lamp"))
  config = small.config("vae", validation_every=4)
  with config.unlocked():
    config.data.update(
      source="renders",
      path=str(build.build_renders(renders, tmp_path / "data").folder),
      looks=("simplified",),
      image_size=16,
    )
  with pytest.raises(
    ValueError, match="data.validation_split='held_out_objects': split="
  ):
    loop.train(config, tmp_path / "run")
  assert not (tmp_path / "run" / "checkpoints").exists()


@pytest.mark.parametrize("use", [loop.train, publish.publish])
def test_an_address_is_no_workdir(tmp_path, monkeypatch, use):
  monkeypatch.chdir(tmp_path)
  other = {loop.train: small.config("vae"), publish.publish: "out"}[use]
  workdir = "gs://bucket/run"
  with pytest.raises(ValueError, match="train.checkpoint_dir=gs://"):
    use(other, workdir) if use is loop.train else use(workdir, other)
  assert not list(tmp_path.iterdir())
