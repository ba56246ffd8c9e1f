"""MVDream (Shi et al. 2023) as its authors sample it.

  python launch.py sample --config=configs/mvdream.py \
    --checkpoint=sd-v2.1-base-4view.pt --prompt="an astronaut riding a horse" \
    --out=out

Four views at 256 px, elevation 15 degrees, 50 steps of DDIM, guidance 10 and
the suffix ", 3d asset". The 1.5 checkpoint, and folders that `launch.py
convert` made of either, go the same way. The network knows neither the field
of view nor the distance of its cameras: those written beside the views are
nominal, their samples say so, and `reconstruct` and `evaluate` search for them.
"""

import ml_collections

from configs import base, presets


def get_config(arg: str = "") -> ml_collections.ConfigDict:
  """The record of its command line; 'runlocal': of the nano models."""
  _, local = presets.parse("mvdream", arg)
  config = base.get_config()
  with config.unlocked():
    config.sample.update(
      score="mv",
      views=4,
      elevation=15.0,
      azimuth=0.0,  # 90 in its own convention
      metric_cameras=False,
      multiview_template="{prompt}, 3d asset",
      multiview_guidance=10.0,
      steps=50,
      timestep_spacing="ldm",
    )
    if local:
      presets.sample_locally(config)
  return config
