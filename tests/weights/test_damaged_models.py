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
  "layers without end": (
    with_config("unet/config.json", layers_per_block=10**9),
    "layers_per_block=1000000000: must be a whole number from 1 to 128",
  ),
  "text layers without end": (
    with_config("text_encoder/config.json", num_hidden_layers=10**9),
    "num_hidden_layers=1000000000: must be",
  ),
  "width of text": (
    with_config("unet/config.json", norm_num_groups="four"),
    "norm_num_groups='four': must be a whole number",
  ),
  "long text for a number": (
    with_config("vae/config.json", latent_channels="4" * 5000),
    "latent_channels='444.*'",
  ),
  "no latent scale": (
    with_config("vae/config.json", scaling_factor=[0.5]),
    "scaling_factor=.0.5.: must be a number above 0",
  ),
  "side of a latent that is no number": (
    with_config("unet/config.json", sample_size="8"),
    "sample_size='8': must be a whole number",
  ),
  "schedule beyond memory": (
    with_config("scheduler/scheduler_config.json", num_train_timesteps=10**11),
    "num_train_timesteps=100000000000: must be of type int, 0 to 1000000",
  ),
  "schedule of text": (
    with_config("scheduler/scheduler_config.json", steps_offset="1"),
    "steps_offset='1': must be of type int",
  ),
  "tokens in rows of text": (
    with_config("tokenizer/tokenizer_config.json", model_max_length="12"),
    "tokenizer",
  ),
  "tokens in rows without end": (
    with_config("tokenizer/tokenizer_config.json", model_max_length=10**30),
    "model_max_length=1000.*: must be a whole number from 3 to 1048576",
  ),
  "padding that is no token": (
    with_config(
      "tokenizer/special_tokens_map.json", pad_token=["<|endoftext|>"]
    ),
    "tokenizer",
  ),
  "ids beyond the embedding": (
    with_config("tokenizer/vocab.json", **{"!": 10**6}),
    "ids in vocab.json are not 0, 1, 2",
  ),
  "ids that are no numbers": (
    with_config("tokenizer/vocab.json", **{"!": "0"}),
    "tokenizer",
  ),
  "whole numbers as weights": (
    with_tensors(
      lambda t: t | {"conv_in.bias": np.ones_like(t["conv_in.bias"], np.int32)}
    ),
    "unet/: conv_in/bias is of int32, weights must be floats",
  ),
  "truth values as weights": (
    with_tensors(
      lambda t: t | {"conv_in.bias": np.ones_like(t["conv_in.bias"], bool)}
    ),
    "unet/: conv_in/bias is of bool, weights must be floats",
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


def with_blocks(**values):
  """Changes one epipolar block."""

  def damage(home):
    path = home / "epipolar/config.json"
    config = json.loads(path.read_text())
    config["blocks"]["mid_block"] |= values
    path.write_text(json.dumps(config))

  return damage


@pytest.mark.parametrize(
  "damage, reason",
  [
    (with_config("epipolar/config.json", blocks=[1]), r"blocks=\[1\]"),
    (with_config("epipolar/config.json", blocks={}), "blocks={}"),
    (with_config("epipolar/config.json", blocks={"x": {}}), "x must have"),
    (with_config("epipolar/config.json", num_levels="2"), "num_levels='2'"),
    (with_config("epipolar/config.json", num_levels=1), "no place up_blocks_1"),
    (with_blocks(points=10**12), "points=1000000000000: must be"),
    (with_blocks(width="16"), "width='16': must be"),
    (with_blocks(color="red"), "mid_block must have"),
  ],
)
def test_epipolar_blocks(model_folders, tmp_path, damage, reason):
  home = shutil.copytree(model_folders["multiview"], tmp_path / "model")
  damage(home)
  refusal.check(
    lambda: loading.load(home),
    tmp_path,
    names=f"{home}: epipolar/",
    reason=reason,
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
