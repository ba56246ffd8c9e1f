"""Writing models: every format is read back, failures leave nothing."""

import functools
import json
import pathlib
import weakref

import flax.traverse_util
import jax
import key_tables
import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy
from orbax.checkpoint import v1 as ocp

from mvjax import tokenizer
from mvjax.models import conversion, loading
from mvjax.weights import (
  checkpoint,
  families,
  names,
  safetensors_writer,
  single_file,
  weight_file,
  write,
)
from mvjax.weights import tensors as tensors_lib

ROOT = pathlib.Path(__file__).parents[2]
ATTENTION = "mid_block.attentions.0.transformer_blocks.0.attn1.to_q"


def target(folder, format):
  return folder / ("out.safetensors" if format == "safetensors" else "out")


# The references, each loaded once.
loaded = functools.cache(loading.load)


def assert_same_models(path, expected):
  """All that is known of a model before its networks are built."""
  one, other = map(checkpoint.open_checkpoint, (path, expected))
  assert dict(one.scheduler) == dict(other.scheduler)
  texts = ["a red leather sofa", "blue"]
  np.testing.assert_array_equal(one.tokenizer(texts), other.tokenizer(texts))
  assert one.components.keys() == other.components.keys()
  for name, part in other.components.items():
    got = one.components[name]
    assert dict(got.config) == dict(part.config)
    assert got.tensors.keys() == names.modern(part.tensors).keys()
    for key, tensor in names.modern(part.tensors).items():
      np.testing.assert_array_equal(got.tensors[key].read(), tensor.read())


@pytest.mark.parametrize("format", write.FORMATS)
@pytest.mark.parametrize("kind", ["image", "multiview"])
def test_every_format_gives_the_model_back(
  model_folders, tmp_path, kind, format
):
  """Also what a single file's shapes do not tell: heads, groups, tokens."""
  out = target(tmp_path, format)
  opened = checkpoint.open_checkpoint(model_folders[kind])
  assert write.write(opened, out, format=format) == out
  assert_same_models(out, model_folders[kind])
  # Again from the new place to another, and in place.
  again = target(tmp_path / "again", "diffusers")
  write.write(checkpoint.open_checkpoint(out), again)
  assert_same_models(again, model_folders[kind])
  write.write(checkpoint.open_checkpoint(out), out, format=format)
  assert_same_models(out, model_folders[kind])
  assert {path.name for path in tmp_path.iterdir()} == {out.name, "again"}


def test_a_folder_is_what_pytorch_loads(model_folders, tmp_path):
  out = tmp_path / "out"
  opened = checkpoint.open_checkpoint(model_folders["image"])
  write.write(opened, out, dtype="float16")
  index = json.loads((out / "model_index.json").read_text())
  assert index["_class_name"] == "StableDiffusionPipeline"
  assert index["unet"] == ["diffusers", "UNet2DConditionModel"]
  for name, file in {
    "unet": "diffusion_pytorch_model.safetensors",
    "vae": "diffusion_pytorch_model.safetensors",
    "text_encoder": "model.safetensors",
  }.items():
    assert (out / name / "config.json").is_file()
    path = out / name / file
    tensors = safetensors.numpy.load_file(path)
    assert {array.dtype for array in tensors.values()} == {np.dtype("float16")}
    with safetensors.safe_open(path, "np") as opened:
      assert opened.metadata() == {"format": "pt"}
    source = pathlib.Path(model_folders["image"]) / name / file
    for key, array in safetensors.numpy.load_file(source).items():
      np.testing.assert_array_equal(tensors[key], array.astype(np.float16))


def test_spad_is_not_announced_as_a_class_of_diffusers():
  parts, _ = single_file.split(key_tables.file_of("spad_two_views"), source="")
  index = write.model_index(parts["unet"].config)
  assert index["unet"] == ["mvjax", "SPADUNet"]
  parts, _ = single_file.split(key_tables.file_of("mvdream_sd21"), source="")
  index = write.model_index(parts["unet"].config)
  assert index["unet"] == ["diffusers", "UNet2DConditionModel"]


def test_orbax_holds_the_linen_tree(model_folders, tmp_path):
  opened = checkpoint.open_checkpoint(model_folders["multiview"])
  write.write(opened, tmp_path / "out", format="orbax")
  model = loaded(model_folders["multiview"])
  for name in ("vae", "text_encoder"):
    tree = ocp.load(tmp_path / "out" / name / "params")
    jax.tree.map(np.testing.assert_array_equal, tree, model.params[name])


def test_a_single_file_has_the_original_names(model_folders, tmp_path):
  out = target(tmp_path, "safetensors")
  opened = checkpoint.open_checkpoint(model_folders["image"])
  write.write(opened, out, format="safetensors", dtype="float16")
  tensors = safetensors.numpy.load_file(out)
  unet = {key for key in tensors if key.startswith("model.diffusion_model.")}
  vae = {key for key in tensors if key.startswith("first_stage_model.")}
  text = {key for key in tensors if key.startswith("cond_stage_model.")}
  assert unet | vae | text == tensors.keys() and unet and vae and text
  query = tensors["first_stage_model.encoder.mid.attn_1.q.weight"]
  assert query.shape == (16, 16, 1, 1) and query.dtype == np.float16
  # Without the header its shapes tell of the UNet, but nothing of the words.
  bare = tmp_path / "bare.safetensors"
  safetensors.numpy.save_file(tensors, bare)
  with pytest.raises(FileNotFoundError, match="550 tokens"):
    checkpoint.open_checkpoint(bare)
  parts, _ = single_file.split(weight_file.open_weights(bare), source="")
  unet = opened.components["unet"].tensors
  assert parts["unet"].tensors.keys() == unet.keys()


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_dtypes(model_folders, tmp_path, dtype):
  source = checkpoint.open_checkpoint(model_folders["image"])
  write.write(source, tmp_path / "out", dtype=dtype)
  written = checkpoint.open_checkpoint(tmp_path / "out")
  kind = np.dtype(getattr(ml_dtypes, dtype, dtype))
  for name, part in source.components.items():
    for key, tensor in part.tensors.items():
      got = written.components[name].tensors[key].read()
      assert got.dtype == kind
      np.testing.assert_array_equal(got, tensor.read().astype(kind))


def test_the_writer_makes_files_that_the_library_reads(tmp_path):
  rng = np.random.default_rng(0)
  arrays = {
    "b.weight": rng.normal(size=(3, 5)).astype(np.float32),
    "a.scalar": np.float16(0.5) * np.ones(()),
    "c.empty": np.zeros((0, 2), np.float32),
    "d.half": rng.normal(size=7).astype(np.float16),
    "e.brain": rng.normal(size=(2, 2)).astype(ml_dtypes.bfloat16),
    "f.ids": np.arange(5),
    "g.turned": rng.normal(size=(4, 6)).astype(np.float32).T,
  }
  path = tmp_path / "new.safetensors"
  safetensors_writer.write_safetensors(
    path,
    {name: tensors_lib.in_memory(np.asarray(x)) for name, x in arrays.items()},
    header={"format": "pt", "note": "ü"},
  )
  read = safetensors.numpy.load_file(path)
  assert read.keys() == arrays.keys()
  for name, array in arrays.items():
    assert read[name].dtype == array.dtype
    np.testing.assert_array_equal(read[name], array)
  with safetensors.safe_open(path, "np") as file:
    assert file.metadata() == {"format": "pt", "note": "ü"}
  assert int.from_bytes(path.read_bytes()[:8], "little") % 8 == 0


def test_one_tensor_is_in_memory_at_a_time(model_folders, tmp_path):
  alive, most = set(), []

  def watched(tensor):
    def read():
      array = np.array(tensor.read())
      alive.add(id(array))
      weakref.finalize(array, alive.discard, id(array))
      most.append(len(alive))
      return array

    return tensors_lib.View(shape=tensor.shape, dtype=tensor.dtype, read=read)

  opened = checkpoint.open_checkpoint(model_folders["image"])
  parts = {
    name: checkpoint.Component(
      config=part.config,
      tensors={key: watched(value) for key, value in part.tensors.items()},
    )
    for name, part in opened.components.items()
  }
  opened = checkpoint.Checkpoint(
    source="watched",
    components=parts,
    scheduler=opened.scheduler,
    tokenizer=opened.tokenizer,
  )
  for format in ("diffusers", "safetensors"):
    most.clear()
    write.write(
      opened, target(tmp_path, format), format=format, dtype="float16"
    )
    assert len(most) == sum(len(part.tensors) for part in parts.values())
    # The one that was written last may still be named by the loop.
    assert max(most) <= 2


@pytest.mark.parametrize("format", write.FORMATS)
def test_a_failure_leaves_what_was_there(model_folders, tmp_path, format):
  out = target(tmp_path, format)
  opened = checkpoint.open_checkpoint(model_folders["image"])
  write.write(opened, out, format=format)
  unet = opened.components["unet"]
  huge = np.full(unet.tensors["conv_in.bias"].shape, 1e6, np.float32)
  tensors = {**unet.tensors, "conv_in.bias": tensors_lib.in_memory(huge)}
  broken = checkpoint.Checkpoint(
    source="broken",
    components={
      **opened.components,
      "unet": checkpoint.Component(config=unet.config, tensors=tensors),
    },
    scheduler=opened.scheduler,
    tokenizer=opened.tokenizer,
  )
  with pytest.raises(ValueError, match="conv_in.bias is not finite in float16"):
    write.write(broken, out, format=format, dtype="float16")
  assert [path.name for path in tmp_path.iterdir()] == [out.name]
  assert_same_models(out, model_folders["image"])
  with pytest.raises(ValueError, match="not finite"):
    write.write(
      broken, target(tmp_path / "new", format), format=format, dtype="float16"
    )
  assert not list((tmp_path / "new").iterdir())


def test_what_does_not_fit_its_config_is_not_written(model_folders, tmp_path):
  opened = checkpoint.open_checkpoint(model_folders["multiview"])
  for name in ("unet", "epipolar"):
    part = opened.components[name]
    key, tensor = next(iter(part.tensors.items()))
    smaller = tensors_lib.in_memory(np.zeros([n + 1 for n in tensor.shape]))
    changed = checkpoint.Component(
      config=part.config, tensors={**part.tensors, key: smaller}
    )
    parts = {**opened.components, name: changed}
    with pytest.raises(ValueError, match=f"{name}/.* 1 mis-shaped"):
      conversion.check(
        checkpoint.Checkpoint(
          source="mine",
          components=parts,
          scheduler=opened.scheduler,
          tokenizer=opened.tokenizer,
        )
      )


def test_a_lora_is_merged(model_folders, tmp_path):
  source = checkpoint.open_checkpoint(model_folders["image"]).components["unet"]
  weight = source.tensors[f"{ATTENTION}.weight"].read()
  rng = np.random.default_rng(0)
  down = rng.normal(size=(2, weight.shape[1])).astype(np.float32)
  up = rng.normal(size=(weight.shape[0], 2)).astype(np.float32)
  path = tmp_path / "style.safetensors"
  safetensors.numpy.save_file(
    {
      f"unet.{ATTENTION}.lora_A.weight": down,
      f"unet.{ATTENTION}.lora_B.weight": up,
    },
    path,
  )
  out = tmp_path / "out"
  conversion.convert(
    model_folders["image"], out, lora_file=path, lora_scale=0.5
  )
  changed = checkpoint.open_checkpoint(out).components["unet"].tensors
  for key, tensor in source.tensors.items():
    expected = tensor.read()
    if key == f"{ATTENTION}.weight":
      expected = expected + 0.5 * (up @ down)
    np.testing.assert_allclose(changed[key].read(), expected, atol=1e-6)


def _foreign(tmp_path):
  (tmp_path / "out").mkdir()
  (tmp_path / "out" / "thesis.tex").touch()
  (tmp_path / "out" / "unet").mkdir()
  return tmp_path / "out"


def _file(tmp_path):
  (tmp_path / "out").touch()
  return tmp_path / "out"


def _below_a_file(tmp_path):
  (tmp_path / "file").touch()
  return tmp_path / "file" / "out"


def _directory(tmp_path):
  (tmp_path / "out.safetensors").mkdir()
  return tmp_path / "out.safetensors"


@pytest.mark.parametrize(
  "format, make, words",
  [
    ("diffusers", _foreign, "holds thesis.tex"),
    ("orbax", _foreign, "holds thesis.tex"),
    ("diffusers", _file, "is a file"),
    ("diffusers", _below_a_file, "does not take new files"),
    ("safetensors", _file, "must be a file named"),
    ("safetensors", _directory, "must be a file named"),
    ("gguf", lambda folder: folder / "out", "diffusers, orbax, safetensors"),
  ],
)
def test_unsuitable_targets_are_refused_first(tmp_path, format, make, words):
  out = make(tmp_path)
  before = sorted(tmp_path.rglob("*"))
  with pytest.raises(ValueError, match=words):
    # The source, which would be an error too, is not looked at.
    conversion.convert(tmp_path / "nowhere", out, format=format)
  assert sorted(tmp_path.rglob("*")) == before


def test_a_full_disk_is_told_before_anything_is_written(tmp_path):
  tensors = key_tables.stable_diffusion("sd15")
  shape = (10**6, 10**6, 10**3)
  name = f"{single_file.ldm.UNET}out.2.bias"
  giant = tensors_lib.View(
    shape=shape, dtype=np.dtype("float32"), read=lambda: np.zeros(1)
  )
  parts, scheduler = single_file.split(tensors | {name: giant}, source="x")
  opened = checkpoint.Checkpoint(
    source="x",
    components=parts,
    scheduler=scheduler,
    tokenizer=tokenizer.Tokenizer.clip(),
  )
  with pytest.raises(ValueError, match=r"needs \d+.\d GB.* are free"):
    write.write(opened, tmp_path / "out", dtype="float16")
  assert not list(tmp_path.iterdir())


def test_commands(model_folders, tmp_path, launch_py, capsys):
  """Folder to single file to half-precision folder."""
  file, folder = tmp_path / "one.safetensors", tmp_path / "two"
  code = launch_py(
    "export",
    f"--checkpoint={model_folders['multiview']}",
    f"--out={file}",
    "--format=safetensors",
  )
  assert code == 0 and capsys.readouterr().out.strip() == str(file)
  code = launch_py("convert", file, f"--out={folder}", "--dtype=float16")
  assert code == 0 and capsys.readouterr().out.strip() == str(folder)
  model, source = loading.load(folder), loaded(model_folders["multiview"])
  assert type(model) is type(source)
  flat = flax.traverse_util.flatten_dict(model.params)
  for path, array in flax.traverse_util.flatten_dict(source.params).items():
    half = np.asarray(array, np.float16).astype(np.float32)
    np.testing.assert_array_equal(flat[path], half)
  assert set(families.BUFFERS).isdisjoint(safetensors.numpy.load_file(file))
