"""Every task learns: all that it trains moves, and its loss falls."""

import jax
import numpy as np
import pytest

from configs import nano
from mvjax.parallel import mesh as meshes
from mvjax.training import loop, program
from mvjax.training.tasks import registry
from tests.training import small

STEPS = 30


@pytest.mark.parametrize("name", nano.TASKS)
def test_steps_move_every_parameter_and_lower_the_loss(name, tmp_path):
  """Measured at noise and times that no step sees."""
  config = small.config(name)
  with config.unlocked():
    config.train.update(steps=STEPS, batch_size=8, caption_dropout=0.0)
    # Without decay nothing but a gradient moves a parameter.
    config.optimizer.update(learning_rate=3e-3, weight_decay=0.0)
  stream = loop.open_streams(config)["main"]
  task = registry.make(config, workdir=tmp_path, stream=stream)
  batch = task.prepare(next(stream.start(0)))
  loss = task.losses["main"]
  drawn = loss.draw(jax.random.key(config.seed + 1), batch)
  value = jax.jit(loss.value)

  made = program.Program(config, task, mesh=meshes.single())
  state, frozen = made.start(), made.place_frozen()
  first, _ = value(made.whole(state.params), batch, drawn, task.frozen)
  with meshes.use(made.mesh):
    for _ in range(STEPS):
      state, _ = made.steps["main"](state, batch, frozen)
  trained = made.whole(state.params)
  last, _ = value(trained, batch, drawn, task.frozen)
  assert last < 0.9 * first
  before = jax.tree_util.tree_leaves_with_path(task.params)
  unmoved = [
    jax.tree_util.keystr(path)
    for (path, old), new in zip(before, jax.tree.leaves(trained), strict=True)
    if np.array_equal(old, new)
  ]
  assert not unmoved
