"""The training loop: one function, from a config and a workdir.

Everything random in step k is a function of (seed, k) and of batch k, so a
run that was stopped in any way and started again goes on as if it had not
been. Order inside the loop: save if due or asked to end, which may be urgent,
then samples and validation of that state, only then take the batch, then step.
A run that goes on from a checkpoint validates it, whether the process before
came to that or not.
"""

import itertools
import json
import pathlib
from collections.abc import Iterator, Mapping

import jax
import ml_collections
import numpy as np
from jax.sharding import Mesh

from mvjax import locks
from mvjax.parallel import mesh as meshes
from mvjax.parallel import processes
from mvjax.training import (
  checkpoint,
  data,
  metrics,
  precompute,
  profile,
  program,
  record,
  state,
  stopping,
  validation,
)
from mvjax.training.tasks import registry


def train(
  config: ml_collections.ConfigDict, workdir: str | pathlib.Path
) -> state.TrainState:
  """Trains, or goes on training, in `workdir`.

  Writes checkpoints/, metrics.jsonl, tensorboard/, samples/, config.json. Ends
  with a checkpoint at `train.steps`, after `train.max_minutes`, or on SIGTERM.
  Several processes (the config's `processes`) call it with one workdir that
  all of them see.

  Args:
    config: See configs/base.py.
    workdir: Local folder of the run; made if needed, resumed if it has
      checkpoints.

  Returns:
    The last state.

  Raises:
    ValueError: The config, the data or the checkpoint does not fit, by field;
      or another run is in the workdir.
    NonFiniteError: A metric became NaN or infinite.
  """
  validation.validate(config)
  workdir = record.local_folder(workdir)
  record.check_place(workdir)
  workdir.mkdir(parents=True, exist_ok=True)
  processes.start(config.processes)
  _check_config_alike(config)
  validation.check_cpu_devices(config, jax.local_device_count())
  mesh = meshes.make(config.mesh)
  validation.check_devices(config, mesh)
  with locks.only_run(workdir, "workdir"):
    return _train(config, workdir, mesh=mesh)


def _train(
  config: ml_collections.ConfigDict, workdir: pathlib.Path, *, mesh: Mesh
) -> state.TrainState:
  """Opens everything, checks it, and runs the loop."""
  streams = open_streams(config)
  held_out = _open_held_out(config) if config.train.validation_every else None
  fingerprint = {name: dict(s.fingerprint) for name, s in streams.items()}
  processes.check_alike("data", json.dumps(fingerprint, sort_keys=True))
  weights = record.weights_of(config)
  processes.check_alike(
    f"train.init_from={config.train.init_from}",
    json.dumps(weights, sort_keys=True),
  )
  checkpoints = checkpoint.Checkpoints(
    record.checkpoint_folder(workdir, config),
    keep=config.train.keep,
    keep_every=config.train.keep_every,
  )
  # A signal must not break off the last checkpoint either.
  with stopping.Stopping(config.train) as stop, checkpoints:
    journal = record.Journal(
      config, fingerprint, weights=weights, checkpoints=checkpoints
    )
    task = registry.make(config, workdir=workdir, stream=streams["main"])
    run = program.Run(config, task, mesh=mesh)
    train_state = run.restore(checkpoints)
    if processes.is_first():
      record.write_description(workdir, config)
    iterators = {
      name: stream.start(journal.positions[name], run.rows)
      for name, stream in streams.items()
    }
    writer = metrics.Writer(
      workdir,
      steps=config.train.steps,
      log_every=config.train.log_every,
      first_step=int(train_state.step),
      peak_flops=run.peak_flops,
      wandb_project=config.train.wandb,
      config=record.as_json(config),
    )
    with writer, processes.ends_if_one_is_lost():
      return _loop(
        run,
        train_state,
        iterators,
        held_out=held_out,
        checkpoints=checkpoints,
        journal=journal,
        writer=writer,
        stop=stop,
        profile_dir=workdir / "profile",
      )


def _loop(
  run: program.Run,
  train_state: state.TrainState,
  iterators: Mapping[str, Iterator[data.Batch]],
  *,
  held_out: data.Stream | None,
  checkpoints: checkpoint.Checkpoints,
  journal: "record.Journal",
  writer: metrics.Writer,
  stop: stopping.Stopping,
  profile_dir: pathlib.Path,
) -> state.TrainState:
  """Steps until the end, a signal or the time limit."""
  settings = run.config.train
  step, example = int(train_state.step), None
  trace = profile.Trace(settings, profile_dir)
  stop.saved()

  def save() -> None:
    # Nothing is written before the newest metrics are known to be finite.
    with writer.paused():
      checkpoints.save(step, train_state, record=journal.at(step))
    stop.saved()

  def look() -> None:
    """Samples and validation loss of the state, where they are due."""
    last = step == settings.steps
    if example is not None and _due(settings.sample_every, step, last=last):
      with writer.paused():
        sheet = run.draw(train_state, example)
        if sheet is not None:
          writer.image("train", step, sheet)
    if held_out and _due(settings.validation_every, step, last=last):
      # The same batches every time.
      batches = held_out.start(0, run.rows)
      some = itertools.islice(batches, settings.validation_batches)
      with writer.paused():
        writer.scalars(step, run.validate(train_state, some))

  while step < settings.steps:
    due, end = stop.asks(step)
    if due:
      save()
    if end:
      writer.say(f"stopped at step {step}; the same command goes on")
      return train_state
    look()
    trace.start_at(step)
    kind = batch_kind(run.config, step)
    example = run.put(next(iterators[kind]))
    journal.positions[kind] += 1
    work = run.work(kind, example)
    train_state, values = run.step(kind, train_state, example)
    step += 1
    writer.push(step, values, work=work)
    trace.stop_after(step, values)
  save()
  look()
  writer.say(f"finished at step {step}")
  return train_state


def _due(every: int, step: int, *, last: bool) -> bool:
  """Whether something that happens every so many steps (0: never) is due."""
  return bool(every) and (last or step % every == 0)


def _check_config_alike(config: ml_collections.ConfigDict) -> None:
  """Checks that all processes have one config, but for who they are."""
  fields = record.as_json(config)
  del fields["processes"]
  processes.check_alike("config", json.dumps(fields, sort_keys=True))


def _open_held_out(config: ml_collections.ConfigDict) -> data.Stream:
  """The data of the validation loss; opened before it is due.

  Raises:
    ValueError: There is none.
  """
  try:
    return data.open_stream(
      config.data,
      batch_size=config.train.batch_size,
      seed=config.seed,
      validation=True,
    )
  except ValueError as error:
    raise ValueError(
      f"data.validation_split={config.data.validation_split!r}: {error}; name "
      "another, or set train.validation_every=0"
    ) from error


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
