"""The smallest runs that still exercise every part of training."""

import pathlib

import jax

from configs import nano


def config(task, **train):
  """A run of a few steps on made-up shapes, on the devices as they are."""
  made = nano.get_config(f"{task},runlocal")
  with made.unlocked():
    made.vae.update(block_out_channels=(4, 8), norm_num_groups=2)
    # Attention in the middle only: what is traced is what takes the time.
    made.unet.update(
      block_out_channels=(8, 16),
      attention_levels=(False, False),
      norm_num_groups=2,
    )
    made.epipolar.update(width=8, num_frequencies=2)
    made.epipolar.points = dict(mid_block=2)
    made.train.update(
      steps=8, batch_size=2, cpu_devices=0, log_every=1, **train
    )
    made.optimizer.warmup_steps = 2
  return made


def leg(task, previous, **train):
  """A run of two steps that starts from a published folder."""
  made = config(task, init_from=str(previous), sample_every=2, **train)
  with made.unlocked():
    made.train.steps = 2
    made.optimizer.warmup_steps = 1
  return made


def state_of(step):
  """Numbers that compress badly, so that a checkpoint has large files."""
  return {"w": jax.random.normal(jax.random.key(step), (64, 64))}


def checkpoint_steps(workdir):
  """Steps of the complete checkpoints."""
  folder = pathlib.Path(workdir) / "checkpoints"
  done = folder.glob("*/_CHECKPOINT_METADATA")
  return sorted(int(p.parent.name) for p in done if p.parent.name.isdigit())
