"""Damaged folders, and files that are other models: one clear line each."""

import json
import shutil

import numpy as np
import pytest
import refusal
import safetensors.numpy

from mvjax.models import loading

UNET_FILE = "unet/diffusion_pytorch_model.safetensors"


def replaced(name, content):
  return lambda home: (home / name).write_text(content)


def with_config(name, **values):
  def damage(home):
    path = home / name
    path.write_text(json.dumps(json.loads(path.read_text()) | values))

  return damage


def with_tensors(change, name=UNET_FILE):
  def damage(home):
    found = safetensors.numpy.load_file(home / name)
    safetensors.numpy.save_file(change(found), home / name)

  return damage


def indexed(content):
  def damage(home):
    (home / UNET_FILE).rename(home / "unet/one.safetensors")
    (home / f"{UNET_FILE}.index.json").write_text(json.dumps(content))

  return damage


def flax_garbage(home):
  (home / UNET_FILE).unlink()
  (home / "unet/diffusion_flax_model.msgpack").write_bytes(b"\xc1" * 99)


def weights_are_a_folder(home):
  (home / UNET_FILE).unlink()
  (home / UNET_FILE).mkdir()


def config_of_the_vae(home):
  shutil.copy(home / "vae/config.json", home / "unet/config.json")


ONE = np.zeros((2, 2), np.float32)
LORA = {"down_blocks.0.attn.to_q.lora_A.weight": ONE}
AVERAGE = {"model_ema.diffusion_modelinput_blocks00weight": ONE}

FOLDERS = {
  "config that is no JSON": (replaced("vae/config.json", "{"), "vae/config"),
  "config of a list": (replaced("unet/config.json", "[]"), "not an object"),
  "config of bytes": (
    lambda home: (home / "unet/config.json").write_bytes(b"\xff\xfe\x00"),
    "not JSON",
  ),
  "config of another class": (config_of_the_vae, "unet/: config.json"),
  "config of nothing": (replaced("unet/config.json", "{}"), "no block_out"),
  "config of other types": (
    with_config("unet/config.json", block_out_channels="wide"),
    "unet/",
  ),
  "no latent size": (
    with_config("unet/config.json", sample_size=None),
    "model",
  ),
  "schedule of other types": (
    with_config("scheduler/scheduler_config.json", beta_end="low"),
    "model",
  ),
  "schedule that is no JSON": (
    replaced("scheduler/scheduler_config.json", "\0"),
    "scheduler_config.json is not JSON",
  ),
  "tokens that are no JSON": (
    replaced("tokenizer/vocab.json", "]"),
    "tokenizer",
  ),
  "no weights": (lambda home: (home / UNET_FILE).unlink(), "unet has no"),
  "weights that are a folder": (weights_are_a_folder, "unet has no"),
  "empty weights": (replaced(UNET_FILE, ""), "complete"),
  "weights of text": (replaced(UNET_FILE, "hello, I am not"), "complete"),
  "shard outside": (
    indexed({"weight_map": {"a": "../vae/one.safetensors"}}),
    "no safetensors file beside it",
  ),
  "missing shard": (
    indexed({"weight_map": {"a": "two.safetensors"}}),
    "two.safetensors is missing",
  ),
  "index of nothing": (indexed({"weight_map": {}}), "no weight_map"),
  "index of a list": (indexed([]), "not an object"),
  "Flax garbage": (flax_garbage, "not a Flax parameter file"),
  "text encoder of another family": (
    with_config("text_encoder/config.json", hidden_size=1024),
    "text width 1024",
  ),
  "VAE of another family": (
    with_config("vae/config.json", latent_channels=16),
    "latent channels 16",
  ),
  "missing tensor": (
    with_tensors(lambda t: {k: t[k] for k in t if k != "conv_in.bias"}),
    "1 missing .conv_in.bias",
  ),
  "unexpected tensor": (
    with_tensors(lambda t: t | {"extra.weight": ONE}),
    "1 unexpected .extra.weight",
  ),
  "mis-shaped tensor": (
    with_tensors(lambda t: t | {"conv_in.bias": ONE}),
    "1 mis-shaped .conv_in.bias",
  ),
  "LoRA in place of the UNet": (with_tensors(lambda t: LORA), "a LoRA"),
  "average in place of the UNet": (with_tensors(lambda t: AVERAGE), "average"),
  "weights that are not finite": (
    with_tensors(
      lambda t: t | {"conv_in.bias": np.full_like(t["conv_in.bias"], np.nan)}
    ),
    "conv_in/bias is not finite",
  ),
}


@pytest.mark.parametrize("kind", FOLDERS)
def test_folders(model_folders, tmp_path, kind):
  damage, reason = FOLDERS[kind]
  home = shutil.copytree(model_folders["image"], tmp_path / "model")
  damage(home)
  refusal.check(
    lambda: loading.load(home), tmp_path, names=str(home), reason=reason
  )


@pytest.mark.parametrize(
  "keys, reason",
  [
    (["conditioner.embedders.0.x", "model.diffusion_model.x"], "XL"),
    (["first_stage_model.decoder.conv_in.weight"], "VAE alone"),
    (["lora_unet_mid_block_x.lora_down.weight"], "a LoRA"),
    (["model_ema.diffusion_modelinput_blocks00weight"], "EMA-only"),
    (["text_model.final_layer_norm.weight"], "text encoder alone"),
    (["control_model.input_blocks.0.0.weight"], "ControlNet"),
    (["layer1.0.conv1.weight"], "no UNet of latent diffusion"),
  ],
)
def test_files_of_other_models(tmp_path, keys, reason):
  path = tmp_path / "other.safetensors"
  safetensors.numpy.save_file({key: ONE for key in keys}, path)
  refusal.check(
    lambda: loading.load(path), tmp_path, names=str(path), reason=reason
  )
