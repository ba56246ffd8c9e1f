"""The paper's model at full size: Stable Diffusion 1.5 with epipolar blocks.

  python launch.py convert stable-diffusion-v1-5/stable-diffusion-v1-5 \
    --out=models/sd15
  python launch.py train --config=configs/epipolar_sd15.py:v5e-256 \
    --workdir=runs/sd15 --config.data.path=DATA \
    --config.image_data.path=IMAGES \
    --config.train.checkpoint_dir=gs://BUCKET/sd15

All but the networks is as in configs/epipolar_sd21.py. Hardware, and what

  python launch.py plan --config=configs/epipolar_sd15.py:v5e-16 \
    --topology=v5e:4x4 --latents --programs=train

says of a train step on latents that were encoded beforehand (likewise the
others; never timed): GiB of a chip's memory, and seconds by the roofline for
the assets of a step.

  v5e-16     2.7 of 15.8 GiB   0.37 s for 64
  v5e-256    2.8 of 15.8 GiB   0.29 s for 1024
  v5p-64    11.6 of 95.7 GiB   0.30 s for 1024
  v6e-256    5.8 of 31.2 GiB   0.25 s for 2048
"""

import ml_collections

from configs import epipolar_sd21, presets


def get_config(arg: str = "") -> ml_collections.ConfigDict:
  """The record for a mesh of `presets.MESHES`, or ',runlocal'.

  Raises:
    ValueError: an unknown mesh, listing the known ones.
  """
  _, local = presets.parse("epipolar_sd15", arg, choices=presets.MESHES)
  config = epipolar_sd21.get_config(arg)
  if local:
    return config
  with config.unlocked():
    networks(config)
    config.train.init_from = config.sample.image = "models/sd15"
  return config


def networks(config: ml_collections.ConfigDict) -> None:
  """Those of stable-diffusion-v1-5."""
  config.unet.update(
    num_heads=(8, 8, 8, 8),
    cross_attention_dim=768,
    use_linear_projection=False,
  )
  config.text_encoder.update(
    hidden_size=768,
    intermediate_size=3072,
    num_hidden_layers=12,
    num_attention_heads=12,
    hidden_act="quick_gelu",
    pad_token="<|endoftext|>",
  )
