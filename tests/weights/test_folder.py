"""Model folders: round trips, atomic replacement, errors."""

import json

import jax
import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy

from mvjax.weights import checkpoint, folder

PARAMS = {
  "conv_in": {
    "kernel": np.arange(24, dtype=np.float32).reshape(1, 2, 3, 4),
    "bias": np.ones(4, np.float32),
  },
  "norm1": {"scale": np.full(4, 0.5, np.float32)},
}
CONFIG = {"_class_name": "X", "block_out_channels": [4]}


def _abstract():
  return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), PARAMS)


def _read(path):
  """Config and parameters of the component `unet`."""
  part = folder.read_component(path, "unet")
  return part.config, checkpoint.read_params(
    part, _abstract(), source=f"{path}/unet"
  )


def _write(path, **changes):
  folder.write_component(
    path, "unet", **{"config": CONFIG, "params": PARAMS, **changes}
  )


@pytest.mark.parametrize("dtype", [np.float32, np.float16, ml_dtypes.bfloat16])
def test_round_trip_in_any_precision(tmp_path, dtype):
  _write(tmp_path, dtype=dtype)
  config, params = _read(tmp_path)
  assert config == CONFIG
  # Small whole numbers survive every dtype, and come back as float32.
  jax.tree.map(np.testing.assert_array_equal, params, PARAMS)
  assert {x.dtype for x in jax.tree.leaves(params)} == {np.dtype("float32")}


def test_the_file_is_what_torch_loaders_expect(tmp_path):
  _write(tmp_path)
  path = tmp_path / "unet" / "diffusion_pytorch_model.safetensors"
  tensors = safetensors.numpy.load_file(path)
  assert tensors["conv_in.weight"].shape == (4, 3, 1, 2)
  with safetensors.safe_open(path, "np") as file:
    assert file.metadata() == {"format": "pt"}
  folder.write_component(tmp_path, "text_encoder", config=CONFIG, params=PARAMS)
  assert (tmp_path / "text_encoder" / "model.safetensors").is_file()


def test_writing_replaces_the_component_and_failing_leaves_it(tmp_path):
  _write(tmp_path)
  (tmp_path / "unet" / "stale.bin").touch()
  _write(tmp_path)
  assert not (tmp_path / "unet" / "stale.bin").exists()
  overflowing = {"a": {"bias": np.full(1, 1e6, np.float32)}}
  with pytest.raises(ValueError, match="not finite"):
    _write(tmp_path, params=overflowing, dtype=np.float16)
  with pytest.raises(TypeError):
    _write(tmp_path, config={"not": object()})
  _read(tmp_path)
  assert [path.name for path in tmp_path.iterdir()] == ["unet"]


def test_shards_are_read(tmp_path):
  home = tmp_path / "unet"
  home.mkdir()
  (home / "config.json").write_text("{}")
  shards = {"1.safetensors": ["conv_in.weight"], "2.safetensors": []}
  tensors = folder.names.to_torch(PARAMS)
  shards["2.safetensors"] = [k for k in tensors if k != "conv_in.weight"]
  for name, keys in shards.items():
    safetensors.numpy.save_file({k: tensors[k] for k in keys}, home / name)
  index = {key: name for name, keys in shards.items() for key in keys}
  (home / "diffusion_pytorch_model.safetensors.index.json").write_text(
    json.dumps({"weight_map": index})
  )
  _, params = _read(tmp_path)
  jax.tree.map(np.testing.assert_array_equal, params, PARAMS)


def test_what_is_missing_is_named(tmp_path):
  with pytest.raises(FileNotFoundError, match="no such folder"):
    folder.read_config(tmp_path / "nowhere", "unet")
  _write(tmp_path)
  with pytest.raises(FileNotFoundError, match=r"a vae \(it holds unet\)"):
    folder.read_config(tmp_path, "vae")
  home = tmp_path / "unet"
  (home / "diffusion_pytorch_model.safetensors").rename(
    home / "diffusion_pytorch_model.bin"
  )
  with pytest.raises(FileNotFoundError, match="only safetensors and"):
    _read(tmp_path)
  (home / "config.json").write_text("{")
  with pytest.raises(ValueError, match="not JSON"):
    folder.read_config(tmp_path, "unet")


def test_other_weights_are_refused(tmp_path):
  _write(tmp_path, params={"conv_in": PARAMS["conv_in"]})
  with pytest.raises(ValueError, match=r"unet .*1 missing \(norm1.weight\)"):
    _read(tmp_path)


def test_text_encoders_name_the_type_that_all_networks_are_run_in(tmp_path):
  """Else PyTorch's pipeline would have them in half precision alone."""
  config = CONFIG | {"torch_dtype": "float16"}
  for name in ("text_encoder", "unet"):
    folder.write_component(
      tmp_path, name, config=config, params=PARAMS, dtype=np.float16
    )
  written = folder.read_config(tmp_path, "text_encoder")
  assert written == CONFIG | {"dtype": "float32"}
  assert folder.read_config(tmp_path, "unet") == config
