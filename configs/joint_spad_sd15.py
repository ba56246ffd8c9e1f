"""The paper's "Ours (SPAD)": SPAD mixed with Stable Diffusion 1.5.

  python launch.py sample --config=configs/joint_spad_sd15.py \
    --multiview=spad_four_views.ckpt --image=stable-diffusion-v1-5 \
    --prompt="a corgi" --out=out

The 2D model is asked on its own 64x64 latents (`bridge`), at four times the
cost of asking it on SPAD's 32x32 (`--config.image_model.resolution=native`).
"""

import ml_collections

from configs import presets, spad


def get_config(arg: str = "") -> ml_collections.ConfigDict:
  """SPAD's record with the mixed score; 'runlocal': of nano models."""
  _, local = presets.parse("joint_spad_sd15", arg)
  config = spad.get_config()
  with config.unlocked():
    config.image_model.resolution = "bridge"
    config.sample.update(
      score="mix", lambda_schedule="paper", image_guidance=7.5
    )
    if local:
      presets.sample_locally(config)
  return config
