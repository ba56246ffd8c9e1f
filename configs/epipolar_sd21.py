"""The paper's model at full size: Stable Diffusion 2.1 with epipolar blocks.

  python launch.py convert stabilityai/stable-diffusion-2-1-base \
    --out=models/sd21
  python launch.py train --config=configs/epipolar_sd21.py:v5e-256 \
    --workdir=runs/sd21 --config.data.path=DATA \
    --config.image_data.path=IMAGES \
    --config.train.checkpoint_dir=gs://BUCKET/sd21

Four views at 256 px (32x32 latents), all parameters trained from SD's, the
text encoder and the autoencoder frozen. `:MESH` is one of configs/presets.py;
`:runlocal` runs the same settings on the nano networks of this repository and
made-up shapes. docs/training.md is the walk-through.

Hardware, and what the planner says of a train step on latents that were encoded
beforehand (docs/scale.md; never timed): GiB of a chip's memory, and seconds by
the roofline for the assets of a step.

  v5e-16     2.7 of 15.8 GiB   0.37 s for 64
  v5e-256    2.6 of 15.8 GiB   0.29 s for 1024
  v5p-64    11.8 of 95.7 GiB   0.29 s for 1024
  v6e-256    5.9 of 31.2 GiB   0.24 s for 2048
"""

import ml_collections

from configs import base, nano, presets


def get_config(arg: str = "") -> ml_collections.ConfigDict:
  """The record for a mesh of `presets.MESHES`, or ',runlocal'.

  Raises:
    ValueError: an unknown mesh, listing the known ones.
  """
  mesh, local = presets.parse("epipolar_sd21", arg, choices=presets.MESHES)
  config = base.get_config()
  with config.unlocked():
    config.task = "multiview"
    networks(config)
    training(config)
    presets.set_mesh(config, mesh)
    if local:
      run_locally(config)
  return config


def networks(config: ml_collections.ConfigDict) -> None:
  """Those of stable-diffusion-2-1-base, and the epipolar blocks."""
  config.unet.update(
    block_out_channels=(320, 640, 1280, 1280),
    layers_per_block=2,
    num_heads=(5, 10, 20, 20),
    attention_levels=(True, True, True, False),
    cross_attention_dim=1024,
    use_linear_projection=True,
  )
  config.text_encoder.update(
    vocab_size=49408,
    max_position_embeddings=77,
    hidden_size=1024,
    intermediate_size=4096,
    num_hidden_layers=23,
    num_attention_heads=16,
    hidden_act="gelu",
    pad_token="!",
  )
  config.schedule.update(prediction_type="epsilon", timestep_spacing="trailing")
  # Maps of 4x4, 8x8, 16x16 and 32x32: half as many points as the longest
  # epipolar line has pixels.
  config.epipolar.width = 256
  config.epipolar.points = dict(
    mid_block=4, up_blocks_1=8, up_blocks_2=8, up_blocks_3=16
  )


def training(config: ml_collections.ConfigDict) -> None:
  """Objaverse-like renders, three in ten steps on single images."""
  config.data.update(
    path="data/objaverse",
    looks=("full",),
    held_out_pairs="exclude",
    num_views=4,
    image_size=256,
    threads=16,
    prefetch=16,
  )
  config.image_data.update(
    path="data/images", looks=("full",), image_size=256, threads=16, prefetch=16
  )
  config.optimizer.update(learning_rate=1e-4, warmup_steps=1000)
  # New layers at the peak rate, those that SD has trained below it.
  config.optimizer.groups.update(epipolar=1.0, unet=0.2)
  config.train.update(
    init_from="models/sd21",
    steps=50_000,
    batch_size=1024,
    dtype="bfloat16",
    remat="blocks",
    ema_decay=0.9999,
    image_batch_share=0.3,
    # Hosts ask each other for signals then; a TPU VM is given about 30 s.
    log_every=10,
    sample_every=2000,
    validation_every=2000,
  )
  config.sample.update(image="models/sd21", score="mix", dtype="bfloat16")


def run_locally(config: ml_collections.ConfigDict) -> None:
  """The nano networks from their published weights, 64 pixels, made-up data."""
  nano.networks(config)
  config.unet.update(cross_attention_dim=128, use_linear_projection=False)
  config.text_encoder.update(base.get_config().text_encoder)
  config.schedule.update(base.get_config().schedule)
  config.epipolar.width = 128
  for section in (config.data, config.image_data):
    section.update(source="synthetic", image_size=64)
  config.mesh.update(data=-1, fsdp=1, dcn_data=-1)
  config.processes.count = 1
  config.optimizer.warmup_steps = 4
  config.train.update(
    init_from="checkpoints/nano-2d",
    steps=24,
    batch_size=2,
    dtype="float32",
    log_every=4,
    sample_every=0,
    validation_every=0,
    sample_steps=2,
  )
  presets.sample_locally(config)
