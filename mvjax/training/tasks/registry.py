"""Tasks by name, and the tokenizer that a run's texts go through."""

import dataclasses
import pathlib
from typing import Any

import jax
import ml_collections
import numpy as np

from mvjax import atomic, tokenizer
from mvjax.parallel import processes
from mvjax.training import data
from mvjax.training.tasks import image, multiview, task, vae


def make(
  config: ml_collections.ConfigDict,
  *,
  workdir: pathlib.Path,
  stream: data.Stream,
) -> task.Task:
  """The task that `config.task` names, its arrays in host memory.

  Weights that are read never see a device. Those of new networks are made on
  the default device, which has room for them before the train state is there.
  """
  if config.task == "vae":
    made = vae.make(config)
  else:
    tokens = find_tokenizer(config, workdir=workdir, stream=stream)
    made = with_tokenizer(config, tokens)
  return dataclasses.replace(
    made, params=_on_host(made.params), frozen=_on_host(made.frozen)
  )


def _on_host(tree: Any) -> Any:
  """Numpy arrays for those of devices, whose memory is then free."""

  def fetch(leaf):
    # On a CPU, what `asarray` and `device_get` give is the device's memory.
    return np.array(leaf) if isinstance(leaf, jax.Array) else leaf

  return jax.tree.map(fetch, tree)


def with_tokenizer(
  config: ml_collections.ConfigDict, tokens: tokenizer.Tokenizer
) -> task.Task:
  """The task that `config.task` names, its texts through a given tokenizer.

  It may be traced: nothing is fetched from devices.
  """
  if config.task == "vae":
    return vae.make(config)
  make_task = {"image": image.make, "multiview": multiview.make}[config.task]
  return make_task(config, tokens)


def find_tokenizer(
  config: ml_collections.ConfigDict,
  *,
  workdir: pathlib.Path,
  stream: data.Stream,
) -> tokenizer.Tokenizer:
  """The run's own tokenizer, else that of `train.init_from`, else a new one.

  A new one learns from all captions of the data. It is kept in the workdir.
  Of several processes the first one finds or makes it and the others come
  after; with a workdir of their own they make the same.
  """
  if processes.is_first():
    found = _find_tokenizer(config, workdir, stream)
    processes.meet("the tokenizer is there")
  else:
    processes.meet("the tokenizer is there")
    found = _find_tokenizer(config, workdir, stream)
  return found


def _find_tokenizer(
  config: ml_collections.ConfigDict, workdir: pathlib.Path, stream: data.Stream
) -> tokenizer.Tokenizer:
  own = workdir / "tokenizer"
  given = pathlib.Path(config.train.init_from) / "tokenizer"
  for folder in (own, given):
    if folder.is_dir():
      return tokenizer.Tokenizer.load(folder)
  tokens = tokenizer.train_tokenizer(
    stream.captions(),
    config.text_encoder.vocab_size,
    length=config.text_encoder.max_position_embeddings,
    pad_token=config.text_encoder.pad_token,
  )
  if processes.is_first():
    with atomic.replaced(own) as new:
      tokens.save(new)
  return tokens
