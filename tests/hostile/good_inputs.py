"""Inputs that are good, of every kind: what attacks damage copies of."""

import json
import pathlib
import shutil

import fake_assets
import fake_objects
import fake_renders
import numpy as np
import safetensors.numpy
import test_public_layouts as layouts
import trimesh

from tests.hostile import program

DATA = "data/renders/1.0.0"
PROMPTS = ("a red leather sofa", "a blue wooden chair")
TURNS = (0, 90, 180, 270)


def write(
  home: pathlib.Path, launch: program.Program, models: dict[str, str]
) -> pathlib.Path:
  """Writes all of them into a folder.

  image, multiview: models. lora.safetensors: of the first's UNet.
  samples/: two sample folders. renders/: six render folders. data/: their data
  set. objects/: two meshes with captions.csv. zero123/, spad/, transforms/:
  an object of each public layout. run/: a training of two steps.
  """
  for name, folder in models.items():
    shutil.copytree(folder, home / name)
  _write_lora(home)
  for number, prompt in enumerate(PROMPTS):
    ball = fake_assets.ball(4, size=16, colours=(0.2 * number,) * 4)
    fake_assets.write(
      home / "samples" / f"{prompt.replace(' ', '-')}-0", ball, prompt=prompt
    )
  fake_renders.write(home / "renders")
  _write_objects(home / "objects")
  turned = [layouts.turned(angle) for angle in TURNS]
  for name, (write_layout, _) in layouts.WRITERS.items():
    write_layout(home / name / "chair", turned)
    row = {"name": "chair", "captions": ["a chair"]}
    (home / name / "captions.json").write_text(json.dumps({"chair": row}))
  for command in (
    ("data", "build", "--renders=renders", "--out=data"),
    (
      "train",
      f"--config={program.ROOT}/configs/nano.py:vae,runlocal",
      "--config.train.steps=2",
      "--config.optimizer.warmup_steps=1",
      "--config.train.cpu_devices=0",
      "--workdir=run",
    ),
  ):
    # The first to compile.
    outcome = launch.run(command, home, seconds=300)
    assert outcome.code == 0, outcome
  return home


def _write_lora(home: pathlib.Path) -> None:
  weights = safetensors.numpy.load_file(
    home / "image/unet/diffusion_pytorch_model.safetensors"
  )
  layer = next(name for name in weights if name.endswith("attn1.to_q.weight"))
  wide = weights[layer].shape[0]
  name = "unet." + layer.removesuffix(".weight")
  factors = {
    f"{name}.lora_A.weight": np.full((2, wide), 0.1, np.float32),
    f"{name}.lora_B.weight": np.full((wide, 2), 0.1, np.float32),
  }
  safetensors.numpy.save_file(factors, home / "lora.safetensors")


def _write_objects(home: pathlib.Path) -> None:
  fake_objects.write_painted_box(home / "box.obj")
  fake_objects.write_mesh(home / "ball.glb", trimesh.creation.icosphere(1))
  (home / "captions.csv").write_text("file,name\nbox.obj,box\nball.glb,ball\n")
