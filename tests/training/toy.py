"""A task of one small matrix, where a test is of the run and not its network.

It takes the place of `registry.make`.
"""

import jax
import jax.numpy as jnp
import numpy as np

from mvjax.training import state
from mvjax.training.tasks import task, vae

FEATURES = 64


def make(config, *, workdir, stream):
  """Fits random numbers to the mean colours of images."""
  del config, workdir, stream

  def draw(key, batch):
    shape = len(batch["image"]), FEATURES
    return {"noise": jax.random.normal(key, shape)}

  def value(params, batch, drawn, frozen):
    del frozen
    colour = batch["image"].mean((1, 2))
    found = colour @ params["encoder"]["dense"]["kernel"]
    return jnp.square(found - drawn["noise"]).mean(), {}

  kernel = np.linspace(-1, 1, 3 * FEATURES, dtype=np.float32)
  return task.Task(
    params={"encoder": {"dense": {"kernel": kernel.reshape(3, -1)}}},
    frozen={},
    losses={"main": state.Loss(draw=draw, value=value)},
    prepare=vae.prepare,
    draw=lambda params, frozen, example: (np.asarray(example["image"]), 2),
    write=lambda *_, **__: None,
  )
