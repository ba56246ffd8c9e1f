"""Model folders: what is read, what is refused, what mixes with what."""

import dataclasses
import json
import pathlib
import shutil

import jax
import numpy as np
import pytest
import tiny_models

from mvjax.models import (
  configs,
  epipolar_mv,
  loading,
  mvdream,
  spad,
  stable_diffusion,
)
from mvjax.weights import checkpoint, component, names, tensors


@pytest.fixture(scope="module")
def models(model_folders):
  return {name: loading.load(path) for name, path in model_folders.items()}


def with_vae(model, change):
  """The model with `change(name, leaf)` applied to its VAE's parts."""
  vae = {
    name: jax.tree.map(lambda leaf, name=name: change(name, leaf), part)
    for name, part in model.params["vae"].items()
  }
  return dataclasses.replace(model, params=model.params | {"vae": vae})


def test_the_folder_decides_the_kind(models):
  assert type(models["image"]) is stable_diffusion.FlaxStableDiffusion
  assert type(models["multiview"]) is epipolar_mv.EpipolarMultiview


@pytest.mark.parametrize(
  "kind, fields",
  [
    (mvdream.MVDream, {"camera_dim": 16}),
    (spad.SPAD, {"camera_dim": 8, "ray_channels": 6}),
  ],
)
def test_the_config_of_the_unet_decides_the_kind(
  models, model_folders, kind, fields
):
  """A UNet that knows cameras is one of joint attention."""
  network = models["image"].unet.clone(**fields)
  shapes = stable_diffusion.abstract_params(
    network, *stable_diffusion.unet_inputs(network)
  )
  weights = names.to_torch(tiny_models.random_params(shapes, 3))
  part = component.Component(
    config=configs.unet_config(network, sample_size=8),
    tensors={k: tensors.in_memory(value) for k, value in weights.items()},
  )
  opened = checkpoint.open_checkpoint(model_folders["image"])
  parts = {**opened.components, "unet": part}
  model = loading.build(dataclasses.replace(opened, components=parts))
  assert type(model) is kind
  assert "camera_embedding" in model.params["unet"]


def test_parameters_are_kept_in_the_type_of_the_networks(model_folders):
  def types(**arguments):
    model = loading.load(model_folders["image"], **arguments)
    return {str(leaf.dtype) for leaf in jax.tree.leaves(model.params)}

  assert types(dtype="bfloat16") == {"bfloat16"}
  # As training wants it.
  assert types(dtype="bfloat16", param_dtype="float32") == {"float32"}


def test_parts_of_different_models_are_named(model_folders, tmp_path):
  home = shutil.copytree(model_folders["image"], tmp_path / "model")
  path = home / "text_encoder" / "config.json"
  config = json.loads(path.read_text())
  path.write_text(json.dumps(config | {"hidden_size": 32}))
  with pytest.raises(ValueError, match="text width 32, .* UNet takes 16"):
    loading.load(home)
  path.write_text(json.dumps(config | {"vocab_size": 100}))
  with pytest.raises(ValueError, match="tokenizer has .* encoder 100"):
    loading.load(home)


def test_a_2d_model_is_not_read_as_a_multiview_one(model_folders):
  with pytest.raises(ValueError, match="no epipolar/"):
    epipolar_mv.EpipolarMultiview.load(model_folders["image"])


def test_unet_of_a_multiview_folder_is_a_plain_2d_unet(models, model_folders):
  plain = stable_diffusion.FlaxStableDiffusion.load(model_folders["multiview"])
  whole = models["multiview"].params["unet"]
  kept, added = epipolar_mv.split_params(whole)
  jax.tree.map(np.testing.assert_array_equal, plain.params["unet"], kept)
  assert set(added) == {"camera_embedding", *tiny_models.PLACES}
  joined = epipolar_mv.join_params(kept, added)
  assert jax.tree.structure(joined) == jax.tree.structure(whole)


@pytest.mark.parametrize(
  "part", ["unet", "vae", "text_encoder", "tokenizer", "scheduler"]
)
def test_missing_component_is_named(model_folders, tmp_path, part):
  shutil.copytree(model_folders["image"], tmp_path / "model")
  shutil.rmtree(tmp_path / "model" / part)
  with pytest.raises((FileNotFoundError, ValueError), match=f"model/{part}"):
    loading.load(tmp_path / "model")


def test_equal_latent_spaces_mix(models):
  loading.check_mixable(models["multiview"], models["image"])


def test_half_precision_mixes(models, model_folders):
  half = loading.load(model_folders["image"], "bfloat16")
  loading.check_mixable(models["multiview"], half)


def test_decoder_and_rounding_do_not_matter(models):
  other = with_vae(
    models["image"],
    lambda name, leaf: (
      2 * leaf
      if name == "decoder"
      else leaf.astype("bfloat16").astype("float32")
    ),
  )
  loading.check_mixable(models["multiview"], other)


def test_unequal_scales_are_named(models):
  other = dataclasses.replace(models["image"], scaling_factor=0.18215)
  message = "scaling factors 0.5 and 0.18215"
  with pytest.raises(ValueError, match=message) as error:
    loading.check_mixable(models["multiview"], other)
  assert models["multiview"].name in str(error.value)
  assert models["image"].name in str(error.value)


def test_unequal_channels_are_named(models):
  network = models["image"].unet.clone(in_channels=8)
  other = dataclasses.replace(models["image"], unet=network)
  with pytest.raises(ValueError, match="latent channels 4 and 8"):
    loading.check_mixable(models["multiview"], other)


def test_another_encoder_is_named(models):
  other = with_vae(models["image"], lambda name, leaf: leaf[..., ::-1])
  with pytest.raises(ValueError, match="VAE encoders differ"):
    loading.check_mixable(models["multiview"], other)


def test_fingerprint_is_of_the_content(model_folders, tmp_path):
  source = model_folders["image"]
  copy = shutil.copytree(source, tmp_path / "copy")
  (copy / "README.md").write_text("a note")
  assert loading.fingerprint(copy) == loading.fingerprint(source)
  path = pathlib.Path(copy) / "unet" / "diffusion_pytorch_model.safetensors"
  content = bytearray(path.read_bytes())
  content[-1] ^= 1
  path.write_bytes(content)
  assert loading.fingerprint(copy) != loading.fingerprint(source)


def test_fingerprint_of_a_file_is_of_its_content(tmp_path):
  for name, content in {"a": b"1", "b": b"1", "c": b"2"}.items():
    (tmp_path / name).write_bytes(content)
  a, b, c = (loading.fingerprint(tmp_path / name) for name in "abc")
  assert a == b != c


def test_places_on_one_map_need_one_number_of_points():
  config = epipolar_mv.component_config(
    {"mid_block": 2, "up_blocks_0": 3, "up_blocks_1": 4},
    block_out_channels=(16, 32),
    width=16,
    head_dim=8,
  )
  with pytest.raises(ValueError, match="up_blocks_0 has points=3"):
    epipolar_mv.levels(config, (8, 8))
  config["blocks"]["up_blocks_0"]["points"] = 2
  assert epipolar_mv.levels(config, (8, 8)) == {(4, 4): 2, (8, 8): 4}
