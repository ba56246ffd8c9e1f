"""The sample program from request to folders, with tiny models.

One real run compiles the sampler; the other tests use its program again.
"""

import dataclasses
import json
import pathlib
import shutil
import subprocess
import sys
import types

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import pytest
from PIL import Image

from mvjax import sampling, scores
from mvjax.generation import joint, run
from mvjax.generation import request as requests
from tests import loopback

CONFIG = ml_collections.ConfigDict({"task": "multiview", "width": (1, 2)})
ROOT = pathlib.Path(__file__).parents[2]
PROMPTS = ("a red leather sofa", "a blue wooden chair")


@pytest.fixture(scope="module")
def finished(model_folders, tmp_path_factory):
  """A finished run of two prompts and two seeds in batches of three."""
  request = requests.Request(
    prompts=PROMPTS,
    seeds=(0, 1),
    out=str(tmp_path_factory.mktemp("run") / "out"),
    views=6,
    steps=2,
    batch_size=3,
    **model_folders,
  )
  programs = []
  build = joint.build
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(
      joint,
      "build",
      lambda *args, **kwargs: (
        programs.append(build(*args, **kwargs)) or programs[0]
      ),
    )
    before = sampling.sample._cache_size()
    run.generate(CONFIG, request)
    compilations = sampling.sample._cache_size() - before
  return types.SimpleNamespace(
    request=request,
    program=programs[0],
    compilations=compilations,
    out=pathlib.Path(request.out),
  )


def pixels(folder):
  return np.stack(
    [np.asarray(Image.open(path)) for path in sorted(folder.glob("view_*.png"))]
  )


def test_prompts_and_seeds_compile_the_sampler_once(finished):
  assert finished.compilations == 1


def test_every_sample_has_its_folder(finished):
  assert {path.name for path in finished.out.iterdir()} == {
    "a-red-leather-sofa-0",
    "a-red-leather-sofa-1",
    "a-blue-wooden-chair-0",
    "a-blue-wooden-chair-1",
  }
  compiling = set()
  for folder in finished.out.iterdir():
    assert pixels(folder).shape == (6, 16, 16, 3)
    assert (folder / "turntable.gif").is_file()
    record = json.loads((folder / "sample.json").read_text())
    assert record["prompt"] in PROMPTS
    assert record["score_weights"]["multiview"] == [0.3, 0.8]
    assert record["config"] == {"task": "multiview", "width": [1, 2]}
    assert record["versions"]["jax"] == jax.__version__
    assert record["metric_cameras"] is True
    seconds = record["seconds_of_batch"]
    assert seconds.keys() == {"condition", "denoise", "decode", "compile"}
    compiling.add(seconds["compile"])
    assert 2**26 < record["peak_memory_bytes"] < 2**38
  # Two batches of three: the first one compiled, the second next to nothing.
  assert len(compiling) == 2 and min(compiling) < 0.05 * max(compiling)


def test_samples_differ_by_prompt_and_seed(finished):
  images = [pixels(folder) for folder in finished.out.iterdir()]
  for i, one in enumerate(images):
    assert all((one != other).any() for other in images[:i])


def test_a_sample_does_not_depend_on_its_batch(finished):
  images, _ = joint.draw(
    finished.program,
    (PROMPTS[1], "a front view", PROMPTS[0]),
    seeds=(1, 5, 0),
  )
  for image, name in (
    (0, "a-blue-wooden-chair-1"),
    (2, "a-red-leather-sofa-0"),
  ):
    difference = images[image].astype(int) - pixels(finished.out / name)
    assert np.abs(difference).max() <= 1


def test_two_processes_share_the_samples(finished, tmp_path):
  """Each draws every other one, on a device of its own."""
  request, out = finished.request, tmp_path / "out"
  (tmp_path / "prompts.txt").write_text("\n".join(PROMPTS))
  arguments = [
    f"--config={ROOT / 'configs' / 'nano.py'}:multiview",
    f"--prompts={tmp_path / 'prompts.txt'}",
    "--seeds=0,1",
    f"--out={out}",
    f"--multiview={request.multiview}",
    f"--image={request.image}",
    f"--views={request.views}",
    f"--steps={request.steps}",
    f"--eta={request.eta}",
    f"--lambda_schedule={request.lambda_schedule}",
    f"--multiview_guidance={request.multiview_guidance}",
    f"--image_guidance={request.image_guidance}",
    "--config.processes.count=2",
    f"--config.processes.coordinator=localhost:{loopback.free_port()}",
  ]
  started = [
    subprocess.Popen(
      [sys.executable, "launch.py", "sample", *arguments]
      + [f"--config.processes.index={index}"],
      cwd=ROOT,
      stdout=subprocess.PIPE,
      stderr=subprocess.STDOUT,
      text=True,
    )
    for index in range(2)
  ]
  for process in started:
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output
  drawn = [path.parent.name for path in out.glob("*/sample.json")]
  assert sorted(drawn) == sorted(path.name for path in finished.out.iterdir())
  for name in drawn:
    difference = pixels(out / name).astype(int) - pixels(finished.out / name)
    assert np.abs(difference).max() <= 1


def test_finished_samples_are_not_redone(finished, monkeypatch):
  monkeypatch.delattr(joint, "build")
  run.generate(CONFIG, finished.request)


def test_nominal_cameras_are_a_remark_not_another_sample(finished):
  nominal = dataclasses.replace(finished.request, metric_cameras=False)
  assert not run.find_missing(nominal)
  assert run.find_missing(dataclasses.replace(nominal, seeds=(5,)))


def test_an_interrupted_run_ends_like_an_uninterrupted_one(
  finished, tmp_path, monkeypatch
):
  out = tmp_path / "out"
  monkeypatch.setattr(joint, "build", lambda *_, **__: finished.program)
  draw, calls = joint.draw, []

  def interrupted(*args, **kwargs):
    calls.append(1)
    if len(calls) == 2:
      raise KeyboardInterrupt
    return draw(*args, **kwargs)

  request = dataclasses.replace(finished.request, out=str(out))
  monkeypatch.setattr(joint, "draw", interrupted)
  with pytest.raises(KeyboardInterrupt):
    run.generate(CONFIG, request)
  assert len(list(out.iterdir())) == 3
  run.generate(CONFIG, request)
  assert len(calls) == 3
  for folder in finished.out.iterdir():
    np.testing.assert_array_equal(pixels(out / folder.name), pixels(folder))


def test_other_settings_or_weights_are_refused(finished, tmp_path, monkeypatch):
  monkeypatch.delattr(joint, "build")
  more = dataclasses.replace(finished.request, steps=3)
  with pytest.raises(ValueError, match="made with steps=2, asked for is 3"):
    run.generate(CONFIG, more)
  other = shutil.copytree(finished.request.image, tmp_path / "image")
  weights = other / "unet" / "diffusion_pytorch_model.safetensors"
  content = bytearray(weights.read_bytes())
  content[-1] ^= 1
  weights.write_bytes(content)
  trained_on = dataclasses.replace(finished.request, image=str(other))
  with pytest.raises(ValueError, match="made with weights_sha256"):
    run.generate(CONFIG, trained_on)
  # Where a model lies and how work is divided do not matter.
  moved = shutil.copytree(finished.request.multiview, tmp_path / "moved")
  run.generate(
    CONFIG,
    dataclasses.replace(finished.request, multiview=str(moved), batch_size=1),
  )


def test_models_of_different_latents_are_refused(
  finished, tmp_path, monkeypatch
):
  other = shutil.copytree(finished.request.image, tmp_path / "image")
  path = other / "vae" / "config.json"
  config = json.loads(path.read_text()) | {"scaling_factor": 0.2}
  path.write_text(json.dumps(config))
  monkeypatch.delattr(joint, "draw")
  request = dataclasses.replace(
    finished.request, image=str(other), out=str(tmp_path / "out")
  )
  with pytest.raises(ValueError, match="cannot be mixed: latent scaling"):
    run.generate(CONFIG, request)


@pytest.mark.parametrize(
  "change, names",
  [
    ({"score": "mv"}, ("multiview",)),
    ({"score": "2d"}, ("image",)),
    ({"score": "consistency"}, ("multiview", "image", "single_view")),
    ({"image": "fine", "image_resolution": "bridge"}, ("multiview", "image")),
    ({"image": "multiview"}, ("multiview", "image")),
    ({"timestep_spacing": "linspace"}, ("multiview", "image")),
  ],
  ids=str,
)
def test_a_score_asks_only_its_models(
  finished, fine_image_model, monkeypatch, change, names
):
  """Every way of scoring fits together; shapes only, nothing is run."""
  folders = {
    "fine": fine_image_model,
    "multiview": finished.request.multiview,
  }
  if "image" in change:
    change = change | {"image": folders[change["image"]]}
  request = dataclasses.replace(finished.request, **change, views=2)
  program = joint.build(request, requests.cameras(request))

  def shapes_of_score(score, params, *, conditioning, steps, shape, **_):
    assert set(params) == set(conditioning) == set(names)
    step = scores.Step(
      level=jax.tree.map(lambda grid: grid[0], steps.levels),
      weights=jax.tree.map(lambda grid: grid[0], steps.weights),
    )
    x = np.zeros((1, *shape), np.float32)
    prediction = jax.eval_shape(score, params, x, step, conditioning)
    assert prediction.eps.shape == prediction.x0.shape == x.shape
    return jnp.zeros(x.shape)

  monkeypatch.setattr(sampling, "sample", shapes_of_score)
  monkeypatch.setattr(
    joint, "_to_uint8", lambda images: np.zeros(images.shape, np.uint8)
  )
  program = dataclasses.replace(
    program,
    encode_fns={
      name: shape_only(fun) for name, fun in program.encode_fns.items()
    },
    camera_fn=shape_only(program.camera_fn),
    decode_fn=shape_only(program.decode_fn),
  )
  images, _ = joint.draw(program, ("a sofa",), seeds=(0,))
  assert images.shape == (1, 2, 16, 16, 3)


def shape_only(fun):
  """Zeros in place of the function's results, without compiling it."""

  def zeros(*args):
    static = args[1:] if isinstance(args[-1], int) else ()
    shapes = jax.eval_shape(
      lambda *arrays: fun(*arrays, *static), *args[: len(args) - len(static)]
    )
    return jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)

  return zeros
