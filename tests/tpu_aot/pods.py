"""The run that is compiled, and its four chips.

The nano networks at half their image size, which compiles in half the time.
"""

from configs import nano
from mvjax.parallel import mesh as meshes
from mvjax.planning import chips

TOPOLOGIES = ("v5e:2x2", "v6e:2x2")


def make_config(*, fsdp):
  made = nano.get_config("multiview")
  with made.unlocked():
    made.data.image_size = 64
    made.mesh.update(data=-1, fsdp=fsdp)
    made.sample.steps = 4
  return made


def make_mesh(config, topology):
  _, devices = chips.devices(topology)
  return meshes.make(config.mesh, devices)
