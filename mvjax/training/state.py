"""The train state and its update: everything a step changes, and nothing else.

No function lives in the state, so it is plain arrays to jit, to the
checkpoints and to the tests.
"""

from collections.abc import Callable, Mapping
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import optax
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int, Key

# A loss: (params, batch, key, frozen) -> (scalar, metrics).
LossFn = Callable[[Any, Any, Any, Any], tuple[Any, Mapping[str, Any]]]


@flax.struct.dataclass
class TrainState:
  """What training carries from step to step.

  Attributes:
    step: int32 scalar, the number of updates made.
    params: Trained parameters, float32.
    ema: Exponential moving average of `params`, same tree.
    opt_state: The optimiser's own state.
  """

  step: Any
  params: Any
  ema: Any
  opt_state: Any


def create(params: Any, optimizer: optax.GradientTransformation) -> TrainState:
  """A state at step 0; the average starts at the parameters."""
  return TrainState(
    step=jnp.zeros((), jnp.int32),
    params=params,
    ema=jax.tree.map(jnp.copy, params),
    opt_state=optimizer.init(params),
  )


def ema_decay(step: Int[ArrayLike, ""], limit: float) -> Float[Array, ""]:
  """Decay after `step` updates: (1 + n) / (10 + n), up to `limit`.

  The ramp lets a young average forget the initial weights.
  """
  n = jnp.asarray(step, jnp.float32)
  return jnp.minimum(limit, (1.0 + n) / (10.0 + n))


def step_key(seed: int, step: Int[ArrayLike, ""]) -> Key[Array, ""]:
  """The key of a step: a function of seed and step alone."""
  return jax.random.fold_in(jax.random.key(seed), step)


def streams(key: Key[Array, ""], *names: str) -> dict[str, Key[Array, ""]]:
  """One independent key per name, to be used once each."""
  return dict(zip(names, jax.random.split(key, len(names)), strict=True))


def make_step(
  loss_fn: LossFn,
  optimizer: optax.GradientTransformation,
  *,
  seed: int,
  ema_limit: float,
) -> Callable[[TrainState, Any, Any], tuple[TrainState, dict[str, Any]]]:
  """The pure train step `(state, batch, frozen) -> (state, metrics)`.

  Metrics are float32 scalars; `loss`, `gradient_norm` and `parameter_norm`
  (of the updated parameters) are always among them.
  """

  def step(state: TrainState, batch: Any, frozen: Any):
    key = step_key(seed, state.step)
    (loss, metrics), gradients = jax.value_and_grad(loss_fn, has_aux=True)(
      state.params, batch, key, frozen
    )
    updates, opt_state = optimizer.update(
      gradients, state.opt_state, state.params
    )
    params = optax.apply_updates(state.params, updates)
    decay = ema_decay(state.step, ema_limit)
    ema = optax.incremental_update(params, state.ema, 1.0 - decay)
    metrics = dict(metrics) | {
      "loss": loss,
      "gradient_norm": optax.tree.norm(gradients),
      "parameter_norm": optax.tree.norm(params),
    }
    state = TrainState(
      step=state.step + 1, params=params, ema=ema, opt_state=opt_state
    )
    return state, metrics

  return step
