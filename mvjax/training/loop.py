"""The training loop: one function, from a config and a workdir.

Everything random in step k is a function of (seed, k) and of batch k, so a
run that was stopped in any way and started again goes on as if it had not
been. Order inside the loop: samples of the old state, save if due, only then
take the batch, then step.
"""

import os
import pathlib
import signal
import threading
import time
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import ml_collections
import numpy as np

from mvjax import compilation
from mvjax.parallel import mesh as meshes
from mvjax.training import (
  checkpoint,
  data,
  metrics,
  precompute,
  program,
  record,
  state,
  validation,
)
from mvjax.training.tasks import registry


def train(
  config: ml_collections.ConfigDict, workdir: str | pathlib.Path
) -> state.TrainState:
  """Trains, or goes on training, in `workdir`.

  Writes checkpoints/, metrics.jsonl, tensorboard/, samples/, config.json. Ends
  with a checkpoint at `train.steps`, after `train.max_minutes`, or on SIGTERM.

  Args:
    config: See configs/base.py.
    workdir: Folder of the run; made if needed, resumed if it has checkpoints.

  Returns:
    The last state.

  Raises:
    ValueError: The config, the data or the checkpoint does not fit, by field.
    NonFiniteError: A metric became NaN or infinite.
  """
  validation.validate(config)
  workdir = pathlib.Path(workdir).absolute()
  workdir.mkdir(parents=True, exist_ok=True)
  if config.train.cpu_devices:
    jax.config.update("jax_num_cpu_devices", config.train.cpu_devices)
    # One thread each: convolution gradients on several are slower than on one.
    os.environ["XLA_FLAGS"] = (
      os.environ.get("XLA_FLAGS", "") + " --xla_cpu_multi_thread_eigen=false"
    )
  compilation.enable_cache()
  validation.check_cpu_devices(config, jax.local_device_count())
  mesh = meshes.make(config.mesh)
  validation.check_devices(config, mesh)

  streams = open_streams(config)
  fingerprint = {name: dict(s.fingerprint) for name, s in streams.items()}
  checkpoints = checkpoint.Checkpoints(
    workdir / "checkpoints", keep=config.train.keep
  )
  with checkpoints, StopSignal() as stop:
    journal = record.Journal(config, fingerprint, checkpoints=checkpoints)
    task = registry.make(config, workdir=workdir, stream=streams["main"])
    run = program.Run(config, task, mesh=mesh)
    train_state = run.restore(checkpoints)
    record.write_description(workdir, config)
    iterators = {
      name: stream.start(journal.positions[name])
      for name, stream in streams.items()
    }
    writer = metrics.Writer(
      workdir,
      steps=config.train.steps,
      log_every=config.train.log_every,
      images_per_step=config.train.batch_size * config.data.num_views,
    )
    with writer:
      return _loop(
        run,
        train_state,
        iterators,
        checkpoints=checkpoints,
        journal=journal,
        writer=writer,
        stop=stop,
      )


def _loop(
  run: program.Run,
  train_state: state.TrainState,
  iterators: Mapping[str, Iterator[data.Batch]],
  *,
  checkpoints: checkpoint.Checkpoints,
  journal: "record.Journal",
  writer: metrics.Writer,
  stop: "StopSignal",
) -> state.TrainState:
  """Steps until the end, a signal or the time limit."""
  settings = run.config.train
  step, saved_at = int(train_state.step), time.monotonic()
  example = None

  def save() -> None:
    # Nothing is written before the newest metrics are known to be finite.
    writer.flush()
    checkpoints.save(step, train_state, record=journal.at(step))

  while step < settings.steps:
    due = settings.sample_every and step and step % settings.sample_every == 0
    if due and example is not None:
      with writer.paused():
        writer.image("train", step, run.draw(train_state, example))
    if stop.requested or journal.out_of_time(settings.max_minutes):
      save()
      print(f"stopped at step {step}; the same command goes on", flush=True)
      return train_state
    if time.monotonic() - saved_at > 60 * settings.checkpoint_minutes:
      with writer.paused():
        save()
      saved_at = time.monotonic()
    kind = batch_kind(run.config, step)
    example = run.put(next(iterators[kind]))
    journal.positions[kind] += 1
    train_state, values = run.step(kind, train_state, example)
    step += 1
    writer.push(step, values)
  save()
  if example is not None and settings.sample_every:
    writer.image("train", step, run.draw(train_state, example))
  print(f"finished at step {step}", flush=True)
  return train_state


def open_streams(config: ml_collections.ConfigDict) -> dict[str, data.Stream]:
  """The data streams of a config by kind of batch."""
  sections = {"main": config.data}
  if config.train.image_batch_share:
    sections["image"] = config.image_data
  streams = {
    kind: data.open_stream(
      section, batch_size=config.train.batch_size, seed=config.seed
    )
    for kind, section in sections.items()
  }
  for stream in streams.values():
    precompute.check_latents(config, stream.fingerprint)
  return streams


def batch_kind(config: ml_collections.ConfigDict, step: int) -> str:
  """Which stream step `step` takes its batch from; random, by the seed."""
  rng = np.random.default_rng([config.seed, step])
  return "image" if rng.random() < config.train.image_batch_share else "main"


class StopSignal:
  """Turns SIGTERM into a request to end after the current step."""

  def __init__(self):
    self.requested = False
    self._previous: Any = None

  def __enter__(self) -> "StopSignal":
    if threading.current_thread() is threading.main_thread():
      self._previous = signal.signal(signal.SIGTERM, self._request)
    return self

  def __exit__(self, *exception) -> None:
    if self._previous is not None:
      signal.signal(signal.SIGTERM, self._previous)

  def _request(self, number: int, frame: Any) -> None:
    del number, frame
    self.requested = True
