"""Programs as shapes, against published weights and traced totals."""

import math
import pathlib

import jax
import pytest

from configs import nano
from mvjax import scores, tokenizer
from mvjax.models import epipolar_mv
from mvjax.parallel import flops
from mvjax.parallel import mesh as meshes
from mvjax.planning import abstract, blocks

NANO = pathlib.Path(__file__).parents[2] / "checkpoints" / "nano-mv"


@pytest.fixture(scope="module")
def config():
  """Two levels, of which one has attention."""
  made = nano.get_config("multiview,runlocal")
  with made.unlocked():
    made.train.update(batch_size=2, remat="blocks")
  return made


@pytest.fixture(scope="module")
def task(config):
  return abstract.train_task(config, mesh=meshes.single())


def shapes(tree):
  return jax.tree.map(lambda leaf: tuple(leaf.shape), tree)


def test_parameters_have_the_shapes_of_the_published_ones():
  made = nano.get_config("multiview")
  with made.unlocked():
    tokens = tokenizer.Tokenizer.load(NANO / "tokenizer")
    made.text_encoder.vocab_size = tokens.vocab_size
  task = abstract.train_task(made, mesh=meshes.single())
  published = epipolar_mv.EpipolarMultiview.load(NANO).params
  found = {**task.params, **task.frozen}
  for name in ("unet", "text_encoder", "vae"):
    assert shapes(found[name]) == shapes(published[name])


def test_nothing_is_stored(task):
  leaves = jax.tree.leaves((task.params, task.frozen))
  assert all(isinstance(leaf, jax.ShapeDtypeStruct) for leaf in leaves)


def test_a_batch_has_the_examples_of_the_config(config, task):
  batch = abstract.batch(config, task)
  assert batch["image"].shape == (2, 4, 32, 32, 3)
  assert batch["ids"].shape == (2, 16)


def test_encoded_data_needs_no_encoder(config, task):
  """Of its networks only the text encoder is asked, about the empty text."""
  batch = abstract.batch(config, task, latents=True)
  assert batch["posterior"].shape == (2, 4, 16, 16, 8)
  assert "image" not in batch
  function, params, _, key, frozen = loss(config, task)
  networks = {
    block.network: block.inputs[0].shape[0]
    for block in blocks.find(function, params, batch, key, frozen)
  }
  assert networks == {"text_encoder": 1, "unet": 8}


@pytest.fixture(scope="module")
def found(config, task):
  return blocks.find(*loss(config, task))


def loss(config, task):
  return (
    task.losses["main"],
    task.params,
    abstract.batch(config, task),
    jax.eval_shape(lambda: jax.random.key(0)),
    task.frozen,
  )


def test_blocks_are_counted(found):
  """One layer a level down, two up; attention on one of two levels."""
  counts = {}
  for block in found:
    if block.network == "unet":
      name = type(block.module).__name__
      counts[name] = counts.get(name, 0) + block.count
  assert counts["ResnetBlock"] == 2 + 2 + 2 * 2
  assert counts["SpatialTransformer"] == 1 + 1 + 2
  assert counts["EpipolarConsistencyBlock"] == 2
  assert counts["Downsample"] == counts["Upsample"] == 1


def test_the_blocks_have_the_parameters(found, task):
  """All but the few around them: text embeddings and norms."""
  held = sum(
    block.count * leaf.size
    for block in found
    for leaf in jax.tree.leaves(block.params)
  )
  used = jax.tree.leaves(
    (
      task.params,
      task.frozen["text_encoder"],
      {k: task.frozen["vae"][k] for k in ("encoder", "quant_conv")},
    )
  )
  assert held / sum(math.prod(leaf.shape) for leaf in used) > 0.97


def test_a_rematerialised_block_keeps_its_inputs(found):
  for block in found:
    if block.remat == "blocks" and type(block.module).__name__ == "ResnetBlock":
      kept = blocks.saved_bytes(block, learns=True, mesh=meshes.single())
      inputs = sum(4 * leaf.size for leaf in jax.tree.leaves(block.inputs))
      assert kept == inputs


def test_the_blocks_do_the_work(config, found, task):
  """Forward and backward: their sum is that of the traced train step."""
  total = flops.count(
    jax.grad(loss(config, task)[0], has_aux=True), *loss(config, task)[1:]
  )[0]
  added = 0
  for block in found:
    trained = block.network == "unet"
    fun = blocks.forward(block)
    if trained:
      fun = blocks.gradient(block, learns=True)
    added += block.count * flops.count(fun, block.params, *block.inputs)[0]
  assert added / total == pytest.approx(1.0, abs=0.02)


def test_a_sampler_is_made_of_both_models(config):
  sampler = abstract.sampler(config, mesh=meshes.single(), batch_size=3)
  assert sampler.x.shape == (3, 4, 16, 16, 4)
  assert set(sampler.params) == {"multiview", "image"}
  assert sampler.branches == {"multiview": 2, "image": 2}
  step = jax.tree.map(
    lambda grid: jax.ShapeDtypeStruct((), grid.dtype),
    (sampler.schedule.levels, sampler.schedule.weights),
  )
  prediction = jax.eval_shape(
    sampler.score,
    sampler.params,
    sampler.x,
    scores.Step(level=step[0], weights=step[1]),
    sampler.conditioning,
  )
  assert prediction.eps.shape == sampler.x.shape
