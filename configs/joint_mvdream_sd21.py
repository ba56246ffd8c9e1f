"""The paper's "Ours (MVDream)": MVDream 2.1 mixed with Stable Diffusion 2.1.

  python launch.py sample --config=configs/joint_mvdream_sd21.py \
    --multiview=sd-v2.1-base-4view.pt --image=stable-diffusion-2-1-base \
    --prompt="an astronaut riding a horse" --out=out

The 2D model is asked on its own 64x64 latents (`bridge`), at four times the
cost of asking it on MVDream's 32x32 (`--config.image_model.resolution=native`).
For MVDream 1.5 give Stable Diffusion 1.5 as the image model, and for a 2D prior
at MVDream's own size give MVDream itself, with `native`.
"""

import ml_collections

from configs import mvdream, presets


def get_config(arg: str = "") -> ml_collections.ConfigDict:
  """MVDream's record with the mixed score; 'runlocal': of nano models."""
  _, local = presets.parse("joint_mvdream_sd21", arg)
  config = mvdream.get_config()
  with config.unlocked():
    config.image_model.resolution = "bridge"
    config.sample.update(
      score="mix", lambda_schedule="paper", image_guidance=7.5
    )
    if local:
      presets.sample_locally(config)
  return config
