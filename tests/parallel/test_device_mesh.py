"""Meshes from configs, over one slice and over several."""

import dataclasses

import numpy as np
import pytest

from configs import base
from mvjax.parallel import mesh as meshes


@dataclasses.dataclass(frozen=True)
class Device:
  """What `jax` tells about a device."""

  id: int
  slice_index: int
  platform: str = "fake"
  device_kind: str = "fake"
  process_index: int = 0


def devices(count, slices=1):
  return [Device(i, i * slices // count) for i in range(count)]


def section(**sizes):
  config = base.get_config().mesh
  with config.unlocked():
    config.update(sizes)
  return config


def test_by_default_all_devices_share_the_batch():
  assert meshes.grid(section(), devices(8)).shape == (8, 1, 1)
  assert meshes.grid(section(), devices(8, slices=2)).shape == (8, 1, 1)
  assert dict(meshes.make(section()).shape) == {
    "data": 1,
    "fsdp": 1,
    "view": 1,
  }


def test_views_and_parameters_stay_within_a_slice():
  sizes = section(data=-1, fsdp=2, view=2)
  grid = meshes.grid(sizes, devices(16, slices=2))
  assert grid.shape == (4, 2, 2)
  slices = np.vectorize(lambda device: device.slice_index)(grid)
  assert (slices == slices[:, :1, :1]).all()
  assert set(slices.ravel()) == {0, 1}
  assert len({device.id for device in grid.ravel()}) == 16


def test_parameters_may_go_over_slices():
  sizes = section(data=1, fsdp=-1, dcn_data=1, dcn_fsdp=2)
  assert meshes.grid(sizes, devices(8, slices=2)).shape == (1, 8, 1)


@pytest.mark.parametrize(
  "sizes, message",
  [
    (dict(data=3), "mesh.data=3, mesh.fsdp=1, mesh.view=1 do not make up 8"),
    (dict(fsdp=3), "mesh.data=-1, mesh.fsdp=3, mesh.view=1 do not make up 8"),
    (dict(fsdp=-1), "mesh.data=-1 and mesh.fsdp=-1: only one"),
    (dict(view=0), "mesh.view=0: a size is positive"),
    (dict(dcn_data=2), "mesh.dcn_data=2, mesh.dcn_fsdp=1 do not make up 1 sl"),
  ],
  ids=str,
)
def test_what_does_not_fit_is_named(sizes, message):
  with pytest.raises(ValueError, match=message):
    meshes.grid(section(**sizes), devices(8))
