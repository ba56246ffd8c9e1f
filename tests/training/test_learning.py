"""Every task learns: its loss on one batch falls within a few steps."""

import jax
import pytest

from configs import nano
from mvjax.parallel import mesh as meshes
from mvjax.training import loop, program
from mvjax.training.tasks import registry
from tests.training import small

STEPS = 30


@pytest.mark.parametrize("name", nano.TASKS)
def test_steps_on_a_batch_lower_its_loss(name, tmp_path):
  """Measured at noise and times that no step sees."""
  config = small.config(name)
  with config.unlocked():
    config.train.update(steps=STEPS, batch_size=8, caption_dropout=0.0)
    config.optimizer.learning_rate = 3e-3
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
  last, _ = value(made.whole(state.params), batch, drawn, task.frozen)
  assert last < 0.9 * first
