"""A multi-view task whose step compiles quickly: attention in the middle."""

from configs import nano
from mvjax.parallel import mesh as meshes
from tests import tiny_models

PLACES = {"mid_block": 2}


def config(home, *, batch_size):
  """A run that starts from `home`, where the model is written if missing."""
  if not home.exists():
    tiny_models.write(
      home,
      seed=1,
      multiview=True,
      prediction="v_prediction",
      places=PLACES,
    )
  made = nano.get_config("multiview,runlocal")
  with made.unlocked():
    made.data.update(image_size=tiny_models.IMAGE_SIZE, num_views=4)
    # Texts that the model's tokenizer knows in full.
    made.train.update(init_from=str(home), batch_size=batch_size, cpu_devices=0)
    made.epipolar.points = PLACES
    made.unet.attention_levels = (False, False)
  return made


def mesh_section(config, sizes):
  """The config's mesh with sizes (data, fsdp, view)."""
  with config.unlocked():
    config.mesh.update(dict(zip(meshes.AXES, sizes, strict=True)))
  return config.mesh
