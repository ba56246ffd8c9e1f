"""From a run to a model folder that everything else can load."""

import functools
import itertools
import json
import pathlib
import tempfile
from collections.abc import Iterator
from typing import Any

import ml_collections
import numpy as np

from mvjax import atomic
from mvjax.models import conversion
from mvjax.parallel import mesh as meshes
from mvjax.training import (
  checkpoint,
  data,
  loop,
  program,
  record,
  resumable,
)
from mvjax.training.tasks import registry
from mvjax.weights import write

# Batches over which a new autoencoder's latent scale is measured.
_SCALE_BATCHES = 16


def export(
  workdir: str | pathlib.Path,
  out: str | pathlib.Path,
  *,
  format: str = "diffusers",
  dtype: Any = np.float16,
) -> pathlib.Path:
  """`publish` in any format of `weights.write`.

  Raises:
    FileNotFoundError: the run's model lacks a part that another format needs.
    ValueError: see `publish`; or `out` cannot be written.
  """
  if format == "diffusers":
    return publish(workdir, out, dtype=dtype)
  write.check_target(out, format=format)
  with tempfile.TemporaryDirectory() as folder:
    model = publish(workdir, folder, dtype=np.float32)
    return conversion.convert(model, out, format=format, dtype=dtype)


def publish(
  workdir: str | pathlib.Path,
  out: str | pathlib.Path,
  *,
  dtype: Any = np.float16,
) -> pathlib.Path:
  """Writes the averaged weights of a run's newest checkpoint.

  The folder has diffusers' layout and a training.json with the chain of legs
  that made it; `train.init_from` takes it as it is. Works beside a running
  training, needs no room on a device for the train state, and reads the data
  set only where it has to: for the latent scale of a new autoencoder, or for a
  tokenizer that is lost.

  Args:
    workdir: Folder of the run.
    out: Folder to write; its components are replaced.
    dtype: Floating type in the files.

  Returns:
    `out` as a path.

  Raises:
    ValueError: `out` has something else under a component's name, there is no
      checkpoint, no data set where it is needed,
      `train.init_from` holds other weights than the run began with, or a
      weight overflows `dtype`.
  """
  workdir, out = record.local_folder(workdir), pathlib.Path(out)
  write.check_parts(out)
  folder = record.checkpoint_folder(workdir)
  if not folder.is_dir():
    raise ValueError(
      f"workdir={workdir}: no checkpoints in {folder}, train first"
    )
  with checkpoint.Checkpoints(folder, keep=1, writes=False) as checkpoints:
    if checkpoints.latest is None:
      raise ValueError(f"workdir={workdir}: no complete checkpoint yet")
    description = record.of_newest(checkpoints)
    config = ml_collections.ConfigDict(description["config"])
    resumable.check_weights(description, record.weights_of(config))
    stream = _opened_late(config)
    task = registry.make(config, workdir=workdir, stream=stream)
    run = program.Program(config, task, mesh=meshes.single())
    average = checkpoints.load_average(run.state)
  task.write(
    run.whole(average),
    task.frozen,
    out,
    dtype=dtype,
    batches=_first(stream),
  )
  text = json.dumps(description, indent=1, sort_keys=True) + "\n"
  atomic.write_text(out / record.FILE, text)
  return out


def _opened_late(config: ml_collections.ConfigDict) -> data.Stream:
  """The run's data, looked for when something of it is asked for."""
  opened = functools.cache(lambda: loop.open_streams(config)["main"])
  return data.Stream(
    start=lambda *args: opened().start(*args),
    captions=lambda: opened().captions(),
    fingerprint={},
  )


def _first(stream: data.Stream) -> Iterator[data.Batch]:
  """Some batches; a task that asks for none opens no data."""
  yield from itertools.islice(stream.start(0), _SCALE_BATCHES)
