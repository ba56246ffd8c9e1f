"""Whole models: how their tensors become parameters, and what that costs."""

import json
import pathlib
import shutil
import subprocess
import sys

import golden_weights
import jax
import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy
import torch_files

from mvjax.weights import checkpoint, component, folder, tensors

# Peak memory beyond what the process had, over the parameters' size.
MEMORY_LIMIT = 1.3
LAYERS, WIDTH = 50, 1000
MEASURE = """
import json, re, sys
import jax, jax.numpy as jnp
from mvjax.weights import checkpoint, component, weight_file

def memory(kind):
  with open("/proc/self/status") as file:
    return 1024 * int(re.search(rf"{kind}:\\s+(\\d+) kB", file.read())[1])

path, dtype, layers, width = sys.argv[1], sys.argv[2], *map(int, sys.argv[3:])
kernel = jax.ShapeDtypeStruct((width, width), dtype)
abstract = {f"layer{i}": {"kernel": kernel} for i in range(layers)}
jax.block_until_ready(jnp.zeros(3, dtype) + 1)
before = memory("VmRSS")
part = component.Component(config={}, tensors=weight_file.open_weights(path))
params = jax.block_until_ready(
  checkpoint.read_params(part, abstract, source=path)
)
peak = memory("VmHWM")
size = sum(leaf.nbytes for leaf in jax.tree.leaves(params))
firsts = [float(params[f"layer{i}"]["kernel"][0, 0]) for i in range(layers)]
print(json.dumps([size, peak - before, firsts]))
"""


def part_of(**values):
  return component.Component(
    config={},
    tensors={key: tensors.in_memory(value) for key, value in values.items()},
  )


def abstract(dtype=np.float32, **shapes):
  return {
    name: {"bias": jax.ShapeDtypeStruct(shape, dtype)}
    for name, shape in shapes.items()
  }


def write_safetensors(path, values):
  safetensors.numpy.save_file(values, path)


def write_torch(path, values):
  body, storages = torch_files.named(values)
  torch_files.write_zip(path, body, *storages)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize(
  "write, dtype", [(write_safetensors, "bfloat16"), (write_torch, "float32")]
)
def test_memory_beyond_the_parameters_is_small(tmp_path, write, dtype):
  """A file of 200 MB in float32; the process had nothing of it before."""
  path = tmp_path / "weights"
  write(
    path,
    {
      f"layer{i}.weight": np.full((WIDTH, WIDTH), i, np.float32)
      for i in range(LAYERS)
    },
  )
  result = subprocess.run(
    [sys.executable, "-c", MEASURE, path, dtype, str(LAYERS), str(WIDTH)],
    cwd=pathlib.Path(__file__).parents[2],
    capture_output=True,
    check=True,
  )
  path.unlink()
  size, used, firsts = json.loads(result.stdout)
  assert size == LAYERS * WIDTH**2 * np.dtype(dtype).itemsize
  assert firsts == list(range(LAYERS))
  assert size <= used <= MEMORY_LIMIT * size


@pytest.mark.parametrize("dtype", [np.float32, np.float16, ml_dtypes.bfloat16])
def test_parameters_have_the_type_that_is_asked_for(dtype):
  """Values of few digits are the same in all."""
  values = np.array([0.5, -3.0, 96.0], ml_dtypes.bfloat16)
  params = checkpoint.read_params(
    part_of(**{"a.bias": values}), abstract(dtype, a=(3,)), source="x"
  )
  assert params["a"]["bias"].dtype == dtype
  np.testing.assert_array_equal(params["a"]["bias"], values.astype(dtype))


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e5])
def test_what_is_not_finite_is_named(value):
  part = part_of(**{"a.bias": np.array([1.0, value], np.float32)})
  with pytest.raises(ValueError, match="x: a/bias is not finite in float16"):
    checkpoint.read_params(part, abstract(np.float16, a=(2,)), source="x")


@pytest.mark.parametrize(
  "key, cause",
  [
    ("down_blocks.0.lora_A.weight", "a LoRA"),
    ("model_ema.diffusion_modelinput_blocks00weight", "a moving average"),
    ("model.diffusion_model.out.2.weight", "give that file itself"),
    ("anything.bias", "the config.json of one model"),
  ],
)
def test_a_misfit_says_its_likely_cause(key, cause):
  part = part_of(**{key: np.zeros((2, 2), np.float32)})
  with pytest.raises(
    ValueError, match="1 missing .a.bias.*unexpected"
  ) as error:
    checkpoint.read_params(part, abstract(a=(2,)), source="x")
  assert cause in str(error.value)


def test_tensors_are_read_once_and_one_at_a_time():
  reads = []

  def tensor(name):
    def read():
      reads.append(name)
      return np.zeros(2, np.float32)

    return tensors.View(shape=(2,), dtype=np.dtype("float32"), read=read)

  part = component.Component(
    config={}, tensors={f"{name}.bias": tensor(name) for name in "abc"}
  )
  with pytest.raises(ValueError, match="mis-shaped"):
    wrong = abstract(a=(2,), b=(2,), c=(3,))
    checkpoint.read_params(part, wrong, source="x")
  assert not reads
  right = abstract(a=(2,), b=(2,), c=(2,))
  checkpoint.read_params(part, right, source="x")
  assert reads == ["a", "b", "c"]


def test_a_shard_stays_in_its_folder(tmp_path):
  home = tmp_path / "model" / "unet"
  home.mkdir(parents=True)
  (home / "config.json").write_text("{}")
  safetensors.numpy.save_file({"a": np.zeros(1)}, tmp_path / "out.safetensors")
  index = home / "diffusion_pytorch_model.safetensors.index.json"
  for name in ("../../out.safetensors", f"{tmp_path}/out.safetensors", ".."):
    index.write_text(json.dumps({"weight_map": {"a": name}}))
    with pytest.raises(ValueError, match="no safetensors file beside it"):
      folder.read_component(tmp_path / "model", "unet")


def test_a_folder_with_a_unet_of_the_original_layout_opens(
  model_folders, tmp_path
):
  """MVDream's conversions to folders keep the original names in unet/."""
  golden = golden_weights.Golden("mvdream_sd21")
  home = shutil.copytree(model_folders["image"], tmp_path / "converted")
  shutil.rmtree(home / "unet")
  (home / "unet").mkdir()
  (home / "unet" / "config.json").write_text(
    json.dumps({"_class_name": "MultiViewUNetModel", "num_head_channels": 16})
  )
  prefix = "model.diffusion_model."
  weights = {
    name.removeprefix(prefix): weight
    for name, weight in golden.tensors().items()
    if name.startswith(prefix)
  }
  safetensors.numpy.save_file(
    weights, home / "unet" / "diffusion_pytorch_model.safetensors"
  )
  unet = checkpoint.open_checkpoint(home).components["unet"]
  assert unet.config["class_embed_type"] == "projection"
  np.testing.assert_array_equal(
    unet.tensors["class_embedding.linear_1.weight"].read(),
    weights["camera_embed.0.weight"],
  )
  assert len(unet.tensors) == len(weights)
