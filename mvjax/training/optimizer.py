"""AdamW with warm-up, from the config, and the groups that are trained."""

import re
from collections.abc import Mapping
from typing import Any

import flax.traverse_util
import jax
import ml_collections
import optax

Rates = Mapping[str, float] | ml_collections.ConfigDict

# Groups of parameters by path; the first that matches.
GROUPS = {
  # What makes a multi-view model of a 2D one.
  "epipolar": r"unet/(.*/)?(epipolar|camera_embedding)/.*",
  "unet": r"unet/.*",
  "text_encoder": r"text_encoder/.*",
  # The vae task's networks.
  "vae": r"(encoder|decoder|quant_conv|post_quant_conv)/.*",
}


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
  """AdamW on clipped gradients; biases and norm gains do not decay.

  A group's relative rate scales its updates, decay included.
  """
  parts = [
    optax.clip_by_global_norm(config.clip_norm),
    optax.adamw(
      learning_rate(config, steps),
      b1=config.b1,
      b2=config.b2,
      weight_decay=config.weight_decay,
      mask=_decays,
    ),
  ]
  if set(config.groups.values()) - {0.0, 1.0}:
    parts.append(optax.stateless(_scale_groups(config.groups)))
  return optax.chain(*parts)


def split_params(params: Any, rates: Rates) -> tuple[Any, Any]:
  """The parameters that are trained, and those whose group has rate 0.

  Raises:
    ValueError: None is left to train, or a parameter belongs to no group.
  """
  flat = flax.traverse_util.flatten_dict(params, sep="/")
  trained = {k: v for k, v in flat.items() if rates[group_of(k)]}
  if not trained:
    groups = sorted({group_of(path) for path in flat})
    raise ValueError(
      f"optimizer.groups: {', '.join(groups)} are 0, so nothing is trained; "
      "give one of them a rate"
    )
  held = {k: v for k, v in flat.items() if k not in trained}
  return (
    flax.traverse_util.unflatten_dict(trained, sep="/"),
    flax.traverse_util.unflatten_dict(held, sep="/"),
  )


def join_params(trained: Any, held: Any) -> Any:
  """Inverse of `split_params`."""
  flat = flax.traverse_util.flatten_dict(trained, sep="/")
  flat |= flax.traverse_util.flatten_dict(held, sep="/")
  return flax.traverse_util.unflatten_dict(flat, sep="/")


def group_of(path: str) -> str:
  """The group of a parameter, by its path in the task's tree.

  Raises:
    ValueError: It belongs to none.
  """
  for group, pattern in GROUPS.items():
    if re.fullmatch(pattern, path):
      return group
  raise ValueError(
    f"{path}: belongs to no group of parameters; add one to "
    "mvjax/training/optimizer.py"
  )


def _scale_groups(rates: Rates) -> Any:
  def scale(updates: Any, params: Any) -> Any:
    del params
    return jax.tree_util.tree_map_with_path(
      lambda path, update: (
        rates[group_of(jax.tree_util.keystr(path, simple=True, separator="/"))]
        * update
      ),
      updates,
    )

  return scale


def _decays(params: Any) -> Any:
  return jax.tree.map(lambda leaf: leaf.ndim > 1, params)
