"""Model folders: what is read, what is refused, what mixes with what."""

import dataclasses
import pathlib
import shutil

import jax
import numpy as np
import pytest

from mvjax.models import epipolar_mv, loading, stable_diffusion


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


def test_unet_of_a_multiview_folder_is_a_plain_2d_unet(models, model_folders):
  plain = stable_diffusion.FlaxStableDiffusion.load(model_folders["multiview"])
  whole = models["multiview"].params["unet"]
  kept, added = epipolar_mv.split_params(whole)
  jax.tree.map(np.testing.assert_array_equal, plain.params["unet"], kept)
  assert set(added) == {
    "camera_embedding",
    "mid_block",
    "up_blocks_0",
    "up_blocks_1",
  }
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


@pytest.mark.parametrize(
  "change, reason",
  [
    ({"scaling_factor": 0.18215}, "scaling factors 0.5 and 0.18215"),
    ({"latent_size": 16}, "latent size 8 and 16"),
  ],
)
def test_unequal_settings_are_named(models, change, reason):
  other = dataclasses.replace(models["image"], **change)
  with pytest.raises(ValueError, match=reason) as error:
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
