"""Records that are not the nano ones: options, meshes, small versions."""

import importlib
import math

import pytest

from configs import epipolar_sd21, presets
from mvjax.training import data, validation

SAMPLED = ("mvdream", "spad", "joint_mvdream_sd21", "joint_spad_sd15")
TRAINED = ("epipolar_sd15", "epipolar_sd21")


def record(name, arg=""):
  return importlib.import_module(f"configs.{name}").get_config(arg)


@pytest.mark.parametrize("name", SAMPLED + TRAINED)
def test_every_record_has_a_small_version(name):
  made = record(name, "runlocal")
  assert made.sample.multiview == "checkpoints/nano-mv"
  assert made.sample.steps <= 4
  assert made.sample.metric_cameras  # the nano models know theirs
  with pytest.raises(ValueError, match=f"configs/{name}.py:colour.*runlocal"):
    record(name, "colour")


@pytest.mark.parametrize("name", SAMPLED)
def test_only_mvdreams_cameras_are_nominal(name):
  assert record(name).sample.metric_cameras == ("mvdream" not in name)


@pytest.mark.parametrize("name", TRAINED)
@pytest.mark.parametrize("mesh", ["", *presets.MESHES, "runlocal"])
def test_training_records_are_valid(name, mesh):
  made = record(name, mesh)
  validation.validate(made)
  if mesh in presets.MESHES:
    groups = made.mesh.data * made.mesh.fsdp
    assert made.train.batch_size % groups == 0
    devices = groups * made.mesh.view * max(1, made.mesh.dcn_data)
    assert devices == int(mesh.rpartition("-")[2])
    assert math.log2(devices) % 1 == 0


@pytest.mark.parametrize("name", TRAINED)
@pytest.mark.parametrize("mesh", ["", *presets.MESHES])
def test_the_loader_takes_the_data_sections(name, mesh):
  made = record(name, mesh)
  for section in (made.data, made.image_data):
    for validates in (False, True):
      settings = data.loader_settings(
        section,
        batch_size=made.train.batch_size,
        seed=made.seed,
        validation=validates,
      )
      assert settings.image_size == 256


def test_a_mesh_and_a_small_version_go_together():
  assert record("epipolar_sd21", "v5e-256,runlocal").train.batch_size == 2


def test_the_nano_record_alone_is_its_first_variant():
  for short, long in (("", "vae"), ("runlocal", "vae,runlocal")):
    assert record("nano", short) == record("nano", long)
  assert record("nano", "runlocal") != record("nano")
  with pytest.raises(ValueError, match="nano.py:vae,image: choose from vae,"):
    record("nano", "vae,image")


def test_two_meshes_are_refused():
  with pytest.raises(ValueError, match="v5e-16,v5p-64: choose"):
    epipolar_sd21.get_config("v5e-16,v5p-64")


@pytest.mark.parametrize(
  "name, heads, width, prediction",
  [
    ("epipolar_sd15", (8, 8, 8, 8), 768, "epsilon"),
    ("epipolar_sd21", (5, 10, 20, 20), 1024, "epsilon"),
  ],
)
def test_networks_are_those_of_the_published_bases(
  name, heads, width, prediction
):
  made = record(name)
  assert tuple(made.unet.num_heads) == heads
  assert made.unet.cross_attention_dim == width
  assert made.text_encoder.hidden_size == width
  assert made.schedule.prediction_type == prediction
  assert made.unet.use_linear_projection is (name == "epipolar_sd21")
