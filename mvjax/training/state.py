"""The train state and its update: everything a step changes, and nothing else.

No function lives in the state, so it is plain arrays to jit, to the
checkpoints and to the tests.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import einops
import flax.struct
import jax
import jax.numpy as jnp
import optax
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int, Key

from mvjax.parallel import logical, rules

Values = tuple[Any, Mapping[str, Any]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Loss:
  """A loss that is told all that is random in it.

  So it can be evaluated part of the batch after part, or at chosen noise.

  Attributes:
    draw: (key, batch) to random arrays with one row per example.
    value: (params, batch, drawn, frozen) to the mean over the examples, and to
      metrics that are such means.
    ruler: Likewise, to the losses that validation writes; None: the value, as
      `loss`.
  """

  draw: Callable[[Any, Any], Any]
  value: Callable[[Any, Any, Any, Any], Values]
  ruler: Callable[[Any, Any, Any, Any], Mapping[str, Any]] | None = None

  def __call__(self, params: Any, batch: Any, key: Any, frozen: Any) -> Values:
    """The loss of a batch under a key."""
    drawn = jax.tree.map(_by_examples, self.draw(key, batch))
    return self.value(params, batch, drawn, frozen)


def _by_examples(x: Array) -> Array:
  """Axes of a drawn array: examples, then perhaps views."""
  return logical.constrain(x, *("batch", "view")[: x.ndim])


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
  loss: Loss,
  optimizer: optax.GradientTransformation,
  *,
  seed: int,
  ema_limit: float,
  learning_rate: optax.Schedule | None = None,
  parts: int = 1,
) -> Callable[[TrainState, Any, Any], tuple[TrainState, dict[str, Any]]]:
  """The pure train step `(state, batch, frozen) -> (state, metrics)`.

  Metrics are float32 scalars; `loss`, `gradient_norm` and `parameter_norm`
  (of the updated parameters) are always among them.

  Args:
    loss: Of a batch.
    optimizer: Makes updates of gradients.
    seed: Of the run.
    ema_limit: See `ema_decay`.
    learning_rate: The optimiser's own, to be among the metrics.
    parts: The batch is taken in so many parts, one after the other, whose
      gradients are averaged; the result is that of the whole batch.
  """

  def gradients_of(state: TrainState, batch: Any, frozen: Any):
    key = step_key(seed, state.step)
    differentiate = jax.value_and_grad(loss.value, has_aux=True)
    drawn = jax.tree.map(_by_examples, loss.draw(key, batch))
    if parts == 1:
      return differentiate(state.params, batch, drawn, frozen)

    def of_part(part):
      value, gradients = differentiate(state.params, *part, frozen)
      return value, rules.constrain_parameters(gradients)

    def add(total, part):
      return jax.tree.map(jnp.add, total, of_part(part)), None

    split = jax.tree.map(
      lambda x: in_parts(jnp.asarray(x), parts), (batch, drawn)
    )
    shapes = jax.eval_shape(of_part, jax.tree.map(lambda x: x[0], split))
    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
    total, _ = jax.lax.scan(add, zeros, split)
    return jax.tree.map(lambda x: x / parts, total)

  def step(state: TrainState, batch: Any, frozen: Any):
    (value, metrics), gradients = gradients_of(state, batch, frozen)
    updates, opt_state = optimizer.update(
      gradients, state.opt_state, state.params
    )
    params = optax.apply_updates(state.params, updates)
    decay = ema_decay(state.step, ema_limit)
    ema = optax.incremental_update(params, state.ema, 1.0 - decay)
    metrics = dict(metrics) | {
      "loss": value,
      "gradient_norm": optax.tree.norm(gradients),
      "parameter_norm": optax.tree.norm(params),
    }
    if learning_rate is not None:
      rate = jnp.asarray(learning_rate(state.step), jnp.float32)
      metrics["learning_rate"] = rate
    state = TrainState(
      step=state.step + 1, params=params, ema=ema, opt_state=opt_state
    )
    return state, metrics

  return step


def make_validation(
  loss: Loss, *, seed: int
) -> Callable[[Any, Any, Any, Any], Mapping[str, Any]]:
  """A pure `(params, batch, frozen, index of the batch) -> losses`.

  What is random is the same at every call with an index.

  Args:
    loss: Of a batch.
    seed: Of the run; the numbers are others than those of training steps.
  """

  def validate(params: Any, batch: Any, frozen: Any, index: Any):
    key = jax.random.fold_in(step_key(seed, index), 1)
    drawn = jax.tree.map(_by_examples, loss.draw(key, batch))
    if loss.ruler is None:
      return {"loss": loss.value(params, batch, drawn, frozen)[0]}
    return loss.ruler(params, batch, drawn, frozen)

  return validate


def in_parts(x: Array, parts: int) -> Array:
  """[b ..] to [parts b/parts ..]; every part has rows of every device."""
  x = einops.rearrange(x, "(b parts) ... -> parts b ...", parts=parts)
  return logical.constrain(x, None, "batch")
