"""What configs share: options after the colon, meshes, small versions."""

from collections.abc import Collection

import ml_collections

# Devices by axis, and examples of a step. One slice unless `dcn_` says
# otherwise; a GPU host of eight is a slice of its own. All but one have several
# hosts, whose number SLURM or the TPU pod knows.
MESHES = {
  "v5e-16": dict(mesh=dict(data=1, fsdp=16), batch_size=64),
  "v5e-256": dict(mesh=dict(data=16, fsdp=16), batch_size=1024),
  "v5p-64": dict(mesh=dict(data=16, fsdp=4), batch_size=1024),
  "v6e-256": dict(mesh=dict(data=32, fsdp=8), batch_size=2048),
  "h100-8": dict(mesh=dict(data=1, fsdp=8), batch_size=64, processes=1),
  "h100-64": dict(mesh=dict(data=1, fsdp=8, dcn_data=8), batch_size=512),
}


def parse(
  name: str, arg: str, *, choices: Collection[str] = ()
) -> tuple[str, bool]:
  """Reads the text after a config's colon: a choice, 'runlocal', both or none.

  Args:
    name: of the config, for the error.
    arg: comes after the colon.
    choices: meshes or variants that the config has.

  Returns:
    The choice or '', and whether 'runlocal' was there.

  Raises:
    ValueError: something else, listing what there is.
  """
  allowed = [*choices, "runlocal"]
  words = [word for word in arg.split(",") if word]
  chosen = [word for word in words if word != "runlocal"]
  if len(chosen) > 1 or set(words) - set(allowed):
    raise ValueError(
      f"configs/{name}.py:{arg}: choose from {', '.join(allowed)}"
    )
  return "".join(chosen), "runlocal" in words


def set_mesh(config: ml_collections.ConfigDict, name: str) -> None:
  """Sets mesh, batch size and processes of a preset; '' leaves them."""
  if name:
    config.mesh.update(MESHES[name]["mesh"])
    config.train.batch_size = MESHES[name]["batch_size"]
    config.processes.count = MESHES[name].get("processes", 0)


def sample_locally(config: ml_collections.ConfigDict) -> None:
  """Samples the nano models of this repository in a few steps instead."""
  config.image_model.resolution = "native"
  config.sample.update(
    multiview="checkpoints/nano-mv",
    image="checkpoints/nano-2d",
    steps=4,
    views=2,
    metric_cameras=True,
    timestep_spacing="trailing",
    dtype="float32",
  )
