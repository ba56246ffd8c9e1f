"""Every bad input of `attacks`, each in a process of its own."""

import collections

import pytest

from tests.hostile import attack, attacks

ALL = {
  f"{kind}: {one.words}: {one.name}": one
  for kind, found in attacks.BY_KIND.items()
  for one in found
}
COMMANDS = {
  *("sample", "figure", "view", "reconstruct", "plan", "train", "curves"),
  *("convert", "export"),
  *("data fetch", "data render", "data build", "data encode"),
  *("evaluate", "evaluate table", "evaluate retrieval", "evaluate images"),
  *("evaluate retrieval-prompts", "evaluate held-out-prompts"),
  "evaluate consistency",
}


@pytest.mark.parametrize("name", ALL)
def test_attacks(launch, scene, name):
  attack.run(ALL[name], scene, launch)


def test_there_are_enough_and_of_every_command():
  counts = collections.Counter(one.words for one in ALL.values())
  assert len(ALL) >= 250
  assert len(ALL) == sum(map(len, attacks.BY_KIND.values()))
  assert set(counts) == COMMANDS
