"""Two processes that are given one folder at the same time."""

import time

import numpy as np

from tests.hostile import kills, test_kills


def test_two_runs_on_one_folder_leave_what_one_does(launch, scene):
  scene.write("prompts.txt", "\n".join(test_kills.PROMPTS))
  for kind, (command, flag, content, stand_in) in test_kills.KINDS.items():

    def words(out, command=command, flag=flag):
      return scene.command((*command, f"{flag}={out}"))

    alone, both = f"{kind}-alone", f"{kind}-both"
    how = {"stand_in": stand_in}
    outcome = launch.run(words(alone), scene.home, seconds=kills.SECONDS, **how)
    assert outcome.code == 0, str(outcome)
    for gap in np.random.default_rng(0).uniform(0, 1, 2):
      launch_two(launch, words(both), scene.home, float(gap), how)
    assert content(scene.home / both) == content(scene.home / alone)


def launch_two(launch, command, home, gap, how):
  """Both end in a line or in a result, and one in a result."""
  runs = []
  for _ in range(2):
    runs.append(launch.start(command, home, **how))
    time.sleep(gap)
  outcomes = [launch.wait(run, seconds=kills.SECONDS) for run in runs]
  codes = sorted(outcome.code for outcome in outcomes)
  assert codes in ([0, 0], [0, 2]), [str(outcome) for outcome in outcomes]
