"""Data sets whose files are damaged, for every command that reads them."""

import dataclasses

import numpy as np

from data_pipeline import build as data_builder
from data_pipeline.renders import rendered_object
from tests.hostile import attack
from tests.hostile.attacks import commands

_DATA = "data/renders/1.0.0"
_READERS = (
  commands.TRAIN_ON_DATA,
  commands.ENCODE,
  (*commands.RETRIEVAL, "--num_names=2"),
  commands.RETRIEVAL_PROMPTS,
  commands.HELD_OUT,
  (*commands.IMAGES[:3], f"--reference={_DATA}", *commands.IMAGES[4:]),
  (*commands.CONSISTENCY, f"--floor={_DATA}", "--split=train"),
)


def _overwritten(pattern, change):
  def damage(scene):
    found = sorted((scene.home / _DATA).glob(pattern))
    assert found, pattern
    for path in found:
      path.write_bytes(change(path.read_bytes()))

  return damage


def _removed(pattern):
  def damage(scene):
    for path in (scene.home / _DATA).glob(pattern):
      path.unlink()

  return damage


def _flip(content):
  place = len(content) // 2
  return content[:place] + bytes([content[place] ^ 255]) + content[place + 1 :]


_RECORDS, _INFO, _FEATURES = (
  "*.array_record*",
  "dataset_info.json",
  "features.json",
)
_DAMAGES = {
  "no records": _removed(_RECORDS),
  "empty records": _overwritten(_RECORDS, lambda content: b""),
  "half the records": _overwritten(_RECORDS, lambda c: c[: len(c) // 2]),
  "zeros for records": _overwritten(_RECORDS, lambda c: bytes(len(c))),
  "a flipped byte in the records": _overwritten(_RECORDS, _flip),
  "no description": _removed(_INFO),
  "an empty description": _overwritten(_INFO, lambda content: b""),
  "a description of a list": _overwritten(_INFO, lambda content: b"[]"),
  "a description 100,000 deep": _overwritten(_INFO, lambda c: b"[" * 100_000),
  "an empty object as description": _overwritten(_INFO, lambda c: b"{}"),
  "no features": _removed(_FEATURES),
  "features of bytes": _overwritten(_FEATURES, lambda c: b"\xff\xfe"),
  "features of nothing": _overwritten(_FEATURES, lambda c: b"{}"),
}


def _damaged(number, name, damage):
  def build(scene):
    scene.copy("data")
    scene.copy("samples")
    damage(scene)

  return attack.Attack(
    name=name,
    command=_READERS[number % len(_READERS)],
    build=build,
    ends=attack.EITHER,
  )


def _nan(number, field):
  """A data set in which a camera is not a number; no builder would write it."""

  def build(scene):
    scene.copy("samples")
    found = []
    for folder in sorted((scene.good / "renders").glob("object_*")):
      one = rendered_object.read_render_folder(folder)
      broken = np.full_like(getattr(one, field), np.nan)
      found.append(dataclasses.replace(one, **{field: broken}))
    data_builder.build(found, scene.home / "data")

  return attack.Attack(
    name=f"{field} of NaN",
    command=_READERS[number],
    build=build,
    ends=attack.EITHER,
  )


ATTACKS = [
  *(
    _nan(number, field)
    for number in range(len(_READERS))
    for field in (("camera_to_world", "intrinsics")[number % 2],)
  ),
  *(
    _damaged(number + shift, name, damage)
    for number, (name, damage) in enumerate(_DAMAGES.items())
    for shift in (0, 3)
  ),
]
