"""Runs that are killed again and again until one comes to its end."""

import itertools
import pathlib
import time
from collections.abc import Iterator, Sequence

import numpy as np

from tests.hostile import program

# One that compiles while others do.
SECONDS = 240.0
_KILLED = -9
# More than the files of a run, and the seconds of one whose programs are
# compiled.
_CHANGES, _SOON = 60, 6.0


def until_done(
  launch: program.Program,
  command: Sequence[str],
  home: pathlib.Path,
  *,
  kills: Iterator[dict | float | None],
  **how,
) -> int:
  """Runs a command until it ends by itself; returns how often it was killed.

  Args:
    launch: the program.
    command: which one.
    home: its folder.
    kills: what kills each run: seconds, a file operation (`watching.start`)
      or None, nothing.
    **how: of `Program.start`.
  """
  for number in itertools.count():
    kill = next(kills)
    at_file = isinstance(kill, dict)
    run = launch.start(command, home, kill=kill if at_file else None, **how)
    if isinstance(kill, float):
      time.sleep(kill)
      launch.kill(run)
    outcome = launch.wait(run, seconds=SECONDS)
    if outcome.code == 0:
      return number
    assert outcome.code == _KILLED and not outcome.timed_out, str(outcome)


def anywhere(rng: np.random.Generator, path: str) -> Iterator[dict | float]:
  """Kills at one of the next changes of files below a path, or soon."""
  while True:
    yield {"path": path, "count": int(rng.integers(1, _CHANGES))}
    yield float(rng.uniform(0.3, _SOON))
