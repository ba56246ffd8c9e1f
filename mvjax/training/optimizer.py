"""AdamW with warm-up, from the config."""

from typing import Any

import jax
import ml_collections
import optax


def learning_rate(
  config: ml_collections.ConfigDict, steps: int
) -> optax.Schedule:
  """Linear warm-up, then constant or a cosine to zero at `steps`.

  Args:
    config: The config's `optimizer` section.
    steps: Length of the whole run.
  """
  warmup = optax.linear_schedule(0.0, config.learning_rate, config.warmup_steps)
  after = {
    "constant": optax.constant_schedule(config.learning_rate),
    "cosine": optax.cosine_decay_schedule(
      config.learning_rate, max(1, steps - config.warmup_steps)
    ),
  }[config.schedule]
  return optax.join_schedules([warmup, after], [config.warmup_steps])


def make_optimizer(
  config: ml_collections.ConfigDict, steps: int
) -> optax.GradientTransformation:
  """AdamW on clipped gradients; biases and norm gains do not decay."""
  return optax.chain(
    optax.clip_by_global_norm(config.clip_norm),
    optax.adamw(
      learning_rate(config, steps),
      b1=config.b1,
      b2=config.b2,
      weight_decay=config.weight_decay,
      mask=_decays,
    ),
  )


def _decays(params: Any) -> Any:
  return jax.tree.map(lambda leaf: leaf.ndim > 1, params)
