"""A program: one process of a run, with a toy in place of the networks.

  python -m tests.training.several WORKDIR COUNT INDEX PORT EVENT

EVENT is '' or one of `lonely` (wait for the others 2 s only), `seeded` (with
another seed), `apart` (in another workdir), `kill` (SIGKILL within step 5) and
`terminate` (SIGTERM to itself while a checkpoint, of step 5 or later, is being
written, which it then says). Every process notes which examples it was given in
WORKDIR/ids-COUNT-INDEX.jsonl.
"""

import json
import os
import pathlib
import signal
import sys
import threading
import time

import jax
import numpy as np

from mvjax.training import checkpoint, loop, program
from mvjax.training.tasks import registry
from tests.training import small, toy

STEPS, EVENT_STEP = 10, 5


def config(count, index, port, event):
  """A run of a few steps that saves before each."""
  made = small.config("vae", checkpoint_minutes=1e-9)
  with made.unlocked():
    made.train.update(
      steps=STEPS,
      batch_size=4,
      validation_every=4,
      sample_every=4,
      profile_at=1,
      profile_steps=1,
    )
    made.processes.update(
      count=count,
      index=index,
      coordinator=f"localhost:{port}",
      timeout_seconds={"lonely": 2, "kill": 20}.get(event, 60),
    )
    made.seed = int(event == "seeded")
    made.mesh.update(data=1, fsdp=-1)
  return made


def terminate_while_writing(workdir):
  """Sends SIGTERM as soon as a checkpoint is there and not finished."""
  while True:
    for folder in (workdir / "checkpoints").glob("*.*tmp*"):
      os.kill(os.getpid(), signal.SIGTERM)
      number = folder.name.partition(".")[0]
      if not (workdir / "checkpoints" / number).exists():
        print("signalled while writing", flush=True)
      return
    time.sleep(1e-4)


def main(workdir, count, index, port, event):
  """Trains with the event, and keeps the final parameters."""
  workdir = pathlib.Path(workdir)
  count, index = int(count), int(index)
  jax.config.update("jax_enable_preemption_service", False)
  registry.make = toy.make
  put, step, save = (
    program.Run.put,
    program.Run.step,
    checkpoint.Checkpoints.save,
  )
  notes = (workdir / f"ids-{count}-{index}.jsonl").open("a")
  newest = {}

  def noted(run, batch):
    newest.update(rows=run.rows, ids=batch["uid"].tolist())
    return put(run, batch)

  def killed(run, kind, train_state, batch):
    newest["step"] = int(train_state.step)
    print(json.dumps(newest), file=notes, flush=True)
    if event == "kill" and newest["step"] == EVENT_STEP:
      os.kill(os.getpid(), signal.SIGKILL)
    return step(run, kind, train_state, batch)

  def terminated(checkpoints, number, *args, **kwargs):
    if event == "terminate" and number == EVENT_STEP:
      threading.Thread(
        target=terminate_while_writing, args=[workdir], daemon=True
      ).start()
    save(checkpoints, number, *args, **kwargs)

  program.Run.put, program.Run.step = noted, killed
  checkpoint.Checkpoints.save = terminated
  home = workdir / "apart" if event == "apart" else workdir
  final = loop.train(config(count, index, port, event), home)
  if int(final.step) == STEPS:
    kernel = final.params["encoder"]["dense"]["kernel"]
    everywhere = jax.NamedSharding(kernel.sharding.mesh, jax.P())
    whole = jax.jit(lambda x: x, out_shardings=everywhere)(kernel)
    if index == 0:
      np.save(workdir / "final.npy", np.asarray(whole))


if __name__ == "__main__":
  main(*sys.argv[1:])
