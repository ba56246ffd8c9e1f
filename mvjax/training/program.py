"""A task compiled for a mesh: its state, its steps, its batches."""

import functools
from typing import Any

import jax
import ml_collections
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from mvjax.parallel import mesh as meshes
from mvjax.parallel import placement, rules
from mvjax.training import checkpoint, data, metrics, optimizer, state
from mvjax.training.tasks import task as tasks


class Program:
  """What a step needs besides its state and its batch.

  Making one computes and compiles nothing: the task's arrays may be shapes,
  and the mesh that of devices which are not there.

  Attributes:
    mesh: Of all devices of all processes.
    state: Shapes and places of the train state.
    frozen: Likewise, of the task's frozen arrays.
    steps: Jitted (state, batch, frozen) to (state, metrics) by kind of batch;
      the state is donated. To be traced inside `parallel.mesh.use`.
  """

  def __init__(
    self, config: ml_collections.ConfigDict, task: tasks.Task, *, mesh: Mesh
  ):
    self.mesh = mesh
    made = optimizer.make_optimizer(config.optimizer, config.train.steps)
    self._create = functools.partial(state.create, optimizer=made)
    shapes = jax.eval_shape(self._create, task.params)
    places = rules.parameter_shardings(shapes, mesh)
    self.state = placement.abstract(shapes, places)
    self.frozen = placement.abstract(
      jax.eval_shape(lambda tree: tree, task.frozen),
      rules.parameter_shardings(task.frozen, mesh),
    )
    everywhere = NamedSharding(mesh, PartitionSpec())
    self.steps = {
      kind: jax.jit(
        state.make_step(
          loss, made, seed=config.seed, ema_limit=config.train.ema_decay
        ),
        donate_argnums=0,
        out_shardings=(places, everywhere),
      )
      for kind, loss in task.losses.items()
    }

  def start(self, params: Any) -> state.TrainState:
    """A state at step 0; no device ever holds more than its part."""
    places = rules.parameter_shardings(params, self.mesh)
    create = jax.jit(
      self._create,
      out_shardings=jax.tree.map(lambda leaf: leaf.sharding, self.state),
    )
    return create(placement.place(params, places))


class Run:
  """A program with its arrays, on the devices.

  Attributes:
    config: The run's config.
    frozen: The task's frozen arrays.
    rows: The rows of each batch that this process loads.
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
    self.frozen = placement.place(
      task.frozen, rules.parameter_shardings(task.frozen, self._mesh)
    )
    self.rows = placement.rows(self._mesh, config.train.batch_size)

  def restore(self, checkpoints: checkpoint.Checkpoints) -> state.TrainState:
    """The newest state of the run, or one at step 0."""
    if checkpoints.latest is None:
      return self.program.start(self._task.params)
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
    with meshes.use(self._mesh):
      return self.program.steps[kind](train_state, batch, self.frozen)

  def draw(self, train_state: state.TrainState, example: Any) -> np.ndarray:
    """A sheet of samples of the averaged weights."""
    # One device: the others would only repeat its work.
    arrays = jax.device_put(
      (train_state.ema, self.frozen, example), jax.local_devices()[0]
    )
    images, columns = self._task.draw(*arrays)
    return metrics.tile(images, columns)
