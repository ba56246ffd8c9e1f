"""The nano models: a CPU run of everything, at 128 px.

  python launch.py train --config=configs/nano.py:vae --workdir=runs/vae
  python launch.py export --workdir=runs/vae --out=runs/published/vae
  python launch.py train --config=configs/nano.py:image --workdir=runs/image \
    --config.train.init_from=runs/published/vae
  python launch.py train --config=configs/nano.py:multiview \
    --workdir=runs/multiview --config.train.init_from=runs/published/image

`:VARIANT,runlocal` shrinks a variant to a minute on made-up shapes, `:runlocal`
the first one. Hardware: 2 CPU cores, the batch shared between two JAX devices.
"""

import ml_collections

from configs import base, presets

TASKS = ("vae", "image", "multiview")
PROMPTS = (
  "a red leather sofa",
  "a brown wood chair",
  "a white bathtub",
  "a blue denim armchair",
)

# How the shipped weights draw best so far.
SAMPLING = dict(
  multiview="checkpoints/nano-mv",
  image="checkpoints/nano-2d",
  # Little trained models: strong guidance, and fresh noise at every step, which
  # mends what earlier steps got wrong.
  multiview_guidance=6.0,
  image_guidance=6.0,
  eta=1.0,
)


def get_config(arg: str = "") -> ml_collections.ConfigDict:
  """The record of a variant: 'vae' (or ''), 'image', 'multiview' (',runlocal').

  Raises:
    ValueError: An unknown variant, listing the known ones.
  """
  chosen, local = presets.parse("nano", arg, choices=TASKS)
  task = chosen or TASKS[0]
  config = base.get_config()
  with config.unlocked():
    config.task = task
    networks(config)
    {"vae": _vae, "image": _image, "multiview": _multiview}[task](config)
    config.train.cpu_devices = 2
    config.train.prompts = PROMPTS
    config.sample.update(
      SAMPLING,
      # Of the multi-view model first: its shapes are the better ones.
      lambda_schedule="late-2d",
    )
    if local:
      _runlocal(config)
  return config


def networks(config: ml_collections.ConfigDict) -> None:
  """8 x 8 pixels to 8 numbers; 8.8 million parameters in the 2D model."""
  config.vae.update(
    block_out_channels=(16, 32, 64, 128),
    layers_per_block=1,
    latent_channels=8,
    norm_num_groups=8,
  )
  config.unet.update(
    block_out_channels=(64, 128, 192),
    layers_per_block=1,
    num_heads=(2, 4, 6),
    attention_levels=(True, True, False),
    mid_attention=True,
    norm_num_groups=8,
  )
  # At maps of 4x4, 8x8 and 16x16.
  config.epipolar.points = dict(mid_block=4, up_blocks_1=8, up_blocks_2=8)


def _vae(config: ml_collections.ConfigDict) -> None:
  """All looks of the training objects, as 64-pixel crops."""
  config.data.looks = ("simplified", "full", "retextured")
  config.data.crop = 64
  config.optimizer.update(
    learning_rate=1e-3, schedule="cosine", warmup_steps=200, weight_decay=1e-4
  )
  config.train.update(steps=20_000, batch_size=16, ema_decay=0.999)


def _image(config: ml_collections.ConfigDict) -> None:
  """Rich images; half of the captions name the view."""
  config.data.view_words = 0.5
  config.optimizer.update(learning_rate=6e-4, warmup_steps=100)
  config.train.update(steps=200_000, batch_size=16, ema_decay=0.998)


def _multiview(config: ml_collections.ConfigDict) -> None:
  """Simplified looks only, and never a held-out pair."""
  config.data.update(
    looks=("simplified",),
    held_out_pairs="exclude",
    num_views=4,
    # The rest are any views: an object has but a few orbits and clusters.
    orthogonal=0.4,
    nearby=0.3,
  )
  config.optimizer.update(learning_rate=5e-4, warmup_steps=100)
  config.optimizer.groups.epipolar = 2.0
  config.train.update(
    steps=100_000,
    batch_size=4,
    ema_decay=0.998,
    # Half of the assets as they are sampled: one noise level for all views.
    own_times=0.25,
    clean_views=0.25,
  )


def _runlocal(config: ml_collections.ConfigDict) -> None:
  """Two small levels, 32 pixels, made-up shapes, a few dozen steps."""
  for section in (config.data, config.image_data):
    section.update(source="synthetic", image_size=32)
  if config.task == "vae":
    config.data.crop = 16
  config.vae.update(block_out_channels=(8, 16), latent_channels=4)
  config.vae.norm_num_groups = 4
  config.unet.update(
    block_out_channels=(16, 32),
    num_heads=(2, 2),
    attention_levels=(False, True),
    cross_attention_dim=16,
    norm_num_groups=4,
  )
  config.text_encoder.update(
    vocab_size=600,
    max_position_embeddings=16,
    hidden_size=16,
    intermediate_size=32,
    num_hidden_layers=2,
    num_attention_heads=2,
  )
  config.epipolar.update(width=16, head_dim=8)
  config.epipolar.points = dict(mid_block=2, up_blocks_1=2)
  config.optimizer.warmup_steps = 4
  config.train.update(
    steps=24,
    batch_size=4,
    log_every=4,
    sample_every=0,
    sample_steps=2,
    prompts=("a red ball", "a blue snowman"),
  )
