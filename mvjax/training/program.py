"""A task compiled for a mesh: its state, its steps, its batches."""

import dataclasses
import functools
from collections.abc import Iterable
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from mvjax.parallel import flops, peaks, placement, processes, rules
from mvjax.parallel import mesh as meshes
from mvjax.training import checkpoint, data, metrics, optimizer, state
from mvjax.training.tasks import ruler
from mvjax.training.tasks import task as tasks


class Program:
  """What a step needs besides its state and its batch.

  Making one computes and compiles nothing: the task's arrays may be shapes,
  and the mesh that of devices which are not there.

  Attributes:
    mesh: Of all devices of all processes.
    state: Shapes and places of the train state, of what is trained.
    frozen: Shapes and places of what is not: the `task`'s frozen arrays, and
      the `held` parameters of groups with rate 0. Kernels are in the compute
      type, in which alone they are used.
    validate: Jitted (params, batch, frozen, index of the batch) to losses.
    steps: Jitted (state, batch, frozen) to (state, metrics) by kind of batch;
      the state is donated. To be traced inside `parallel.mesh.use`.
  """

  def __init__(
    self, config: ml_collections.ConfigDict, task: tasks.Task, *, mesh: Mesh
  ):
    self.mesh = mesh
    self._config, self._task = config, task
    made = optimizer.make_optimizer(config.optimizer, config.train.steps)
    self._create = functools.partial(state.create, optimizer=made)
    trained, _ = self._split()
    shapes = jax.eval_shape(self._create, trained)
    places = rules.parameter_shardings(shapes, mesh)
    self.state = placement.abstract(shapes, places)
    shapes = jax.eval_shape(self.cast, self._unplaced_frozen())
    self.frozen = placement.abstract(
      shapes, rules.parameter_shardings(shapes, mesh)
    )
    everywhere = NamedSharding(mesh, PartitionSpec())
    self._losses = {
      kind: _with_held(loss) for kind, loss in task.losses.items()
    }
    self.steps = {
      kind: jax.jit(
        state.make_step(
          loss,
          made,
          seed=config.seed,
          ema_limit=config.train.ema_decay,
          learning_rate=optimizer.learning_rate(
            config.optimizer, config.train.steps
          ),
          parts=config.train.accumulate,
        ),
        donate_argnums=0,
        out_shardings=(places, everywhere),
      )
      for kind, loss in self._losses.items()
    }
    self.validate = jax.jit(
      state.make_validation(self._losses["main"], seed=config.seed),
      out_shardings=everywhere,
    )

  def start(self) -> state.TrainState:
    """A state at step 0; no device ever holds more than its part.

    The task's parameters are in host memory for that.
    """
    trained, _ = self._split()
    create = jax.jit(self._create, out_shardings=_places(self.state))
    return create(
      placement.place(trained, rules.parameter_shardings(trained, self.mesh))
    )

  def place_frozen(self) -> Any:
    """The arrays of `frozen`."""
    frozen = self.cast(self._unplaced_frozen())
    return placement.place(frozen, _places(self.frozen))

  def flops(self, kind: str, batch: Any) -> float:
    """Of a step on one device, without what is computed again.

    Args:
      kind: of the batch.
      batch: its arrays or their shapes.
    """
    loss = self._losses[kind]
    drawn = jax.eval_shape(loss.draw, jax.random.key(0), batch)

    def value(params: Any, *rest: Any) -> Any:
      return loss.value(params, *rest)[0]

    total = flops.of_gradient(
      value, self.state.params, batch, drawn, self.frozen
    )
    return total / self.mesh.size

  def whole(self, trained: Any) -> Any:
    """All of the task's parameters, from those that are trained."""
    return optimizer.join_params(trained, self._split()[1])

  def _split(self) -> tuple[Any, Any]:
    return optimizer.split_params(
      self._task.params, self._config.optimizer.groups
    )

  def _unplaced_frozen(self) -> dict[str, Any]:
    return {"task": self._task.frozen, "held": self._split()[1]}

  def cast(self, params: Any) -> Any:
    """Kernels and tables in the compute type, as layers would cast them."""
    dtype = jnp.dtype(self._config.train.dtype)

    def cast(path, leaf):
      used = path[-1].key in ("kernel", "embedding")
      return leaf.astype(dtype) if used and leaf.dtype != dtype else leaf

    return jax.tree_util.tree_map_with_path(cast, params)


def _with_held(loss: state.Loss) -> state.Loss:
  """The loss with all parameters, of those that are trained."""

  def joined(function: Any) -> Any:
    def of_trained(trained: Any, batch: Any, drawn: Any, frozen: Any) -> Any:
      params = optimizer.join_params(trained, frozen["held"])
      return function(params, batch, drawn, frozen["task"])

    return of_trained

  return dataclasses.replace(
    loss,
    value=joined(loss.value),
    ruler=loss.ruler and joined(loss.ruler),
  )


def _places(abstract: Any) -> Any:
  return jax.tree.map(lambda leaf: leaf.sharding, abstract)


class Run:
  """A program with its arrays, on the devices.

  Attributes:
    config: The run's config.
    frozen: What is not trained.
    rows: The rows of each batch that this process loads.
    peak_flops: FLOP/s of a device, or None if that is not known.
  """

  def __init__(
    self,
    config: ml_collections.ConfigDict,
    task: tasks.Task,
    *,
    mesh: Mesh,
  ):
    self.config, self._task, self._mesh = config, task, mesh
    self.program = Program(config, task, mesh=self._mesh)
    self.frozen = self.program.place_frozen()
    self.rows = placement.rows(self._mesh, config.train.batch_size)
    self._compiled: dict[str, Any] = {}
    self.peak_flops = peaks.peak_flops(jax.devices()[0].device_kind)
    self._work: dict[str, metrics.Work] = {}

  def restore(self, checkpoints: checkpoint.Checkpoints) -> state.TrainState:
    """The newest state of the run, or one at step 0."""
    if checkpoints.latest is None:
      return self.program.start()
    return checkpoints.load(self.program.state)

  def put(self, batch: data.Batch) -> data.Batch:
    """This process's rows of a loader batch, on its devices."""
    return placement.place_batch(
      self._task.prepare(batch),
      self._mesh,
      batch_size=self.config.train.batch_size,
      held=self.rows,
    )

  def step(
    self, kind: str, train_state: state.TrainState, batch: Any
  ) -> tuple[state.TrainState, dict[str, Any]]:
    """One update; the old state is gone afterwards."""
    arguments = train_state, batch, self.frozen
    if kind not in self._compiled:
      with meshes.use(self._mesh):
        lowered = self.program.steps[kind].lower(*arguments)
      self._compiled[kind] = lowered.compile()
    return self._compiled[kind](*arguments)

  def work(self, kind: str, batch: Any) -> metrics.Work:
    """What a step on a batch of this kind does.

    Operations are counted for devices whose peak is known only.
    """
    if kind not in self._work:
      examples = self.config.train.batch_size
      section = {"main": self.config.data, "image": self.config.image_data}
      counts = self.peak_flops is not None
      self._work[kind] = metrics.Work(
        examples=examples,
        images=examples * section[kind].num_views,
        flops=self.program.flops(kind, batch) if counts else 0.0,
      )
    return self._work[kind]

  def validate(
    self, train_state: state.TrainState, batches: Iterable[data.Batch]
  ) -> dict[str, float]:
    """Mean losses of the averaged weights over some batches."""
    found = []
    for index, batch in enumerate(batches):
      with meshes.use(self._mesh):
        values = self.program.validate(
          train_state.ema, self.put(batch), self.frozen, index
        )
      found.append(jax.device_get(values))
    means = {
      name: float(np.mean([one[name] for one in found])) for name in found[0]
    }
    means |= ruler.gains(means)
    return {f"validation/{name}": value for name, value in means.items()}

  def draw(
    self, train_state: state.TrainState, example: Any
  ) -> np.ndarray | None:
    """A sheet of samples of the averaged weights; only in the first process.

    On one device, in the compute type: the others would only repeat its work.
    """

    @jax.jit
    def needed(params, example):
      first = jax.tree.map(lambda leaf: leaf[: tasks.SHOWN], example)
      return self.program.cast(params), first

    params, shown = needed(train_state.ema, example)
    trained, frozen, shown = placement.on_one_device(
      (params, self.frozen, shown), self._mesh
    )
    if not processes.is_first():
      return None
    params = optimizer.join_params(trained, frozen["held"])
    images, columns = self._task.draw(params, frozen["task"], shown)
    return metrics.tile(images, columns)
