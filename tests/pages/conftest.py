import json

import numpy as np
import pytest

from mvjax.generation import samples
from mvjax.views import viewpoints


@pytest.fixture
def write(tmp_path):
  """Writes a sample folder into tmp_path / 'out'; returns it."""

  def write(prompt="a sofa", *, seed=0, count=6, record=None, glb=None):
    camera = viewpoints.orbit(
      count, azimuth=0.0, elevation=15.0, distance=3.0, field_of_view=40.0
    )
    (tmp_path / "out").mkdir(exist_ok=True)
    folder = samples.write(
      tmp_path / "out",
      samples.Sample(prompt=prompt, seed=seed),
      images=np.zeros((count, 8, 8, 3), np.uint8),
      camera=camera,
      record={"settings": {"score": "mix"}} | (record or {}),
    )
    if glb is not None:
      (folder / "asset.glb").write_bytes(glb)
      made = {
        "made_of": {"fit.grid": 32},
        "psnr_input_views": 21.5,
        "seconds": 9.0,
        "undetermined": {"note": "the underside is guessed"},
      }
      (folder / "reconstruction.json").write_text(json.dumps(made))
    return folder

  return write
