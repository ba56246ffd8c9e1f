"""SPAD (Kant et al. 2024) as its authors sample it.

  python launch.py sample --config=configs/spad.py \
    --checkpoint=spad_four_views.ckpt --prompt="a corgi" --out=out

Eight views at 256 px from 45 degrees above the equator, 100 steps of DDIM,
guidance 7.5 and the prefix "[tdv] ". The model knows one lens and one distance,
which are set here. Give `--views` and `--cameras` as you like.
"""

import ml_collections

from configs import base, presets


def get_config(arg: str = "") -> ml_collections.ConfigDict:
  """The record of its inference script; 'runlocal': of the nano models."""
  _, local = presets.parse("spad", arg)
  config = base.get_config()
  with config.unlocked():
    config.sample.update(
      score="mv",
      views=8,
      elevation=45.0,
      distance=3.5,
      field_of_view=40.26536,  # 0.702769935131073 radians
      multiview_template="[tdv] {prompt}",
      multiview_guidance=7.5,
      steps=100,
      timestep_spacing="ldm",
    )
    if local:
      presets.sample_locally(config)
  return config
