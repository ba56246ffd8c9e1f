"""Checkpoints of a run: the only module that calls Orbax.

One checkpoint is one directory, written under a temporary name and renamed:
the train state, and beside it as readable JSON the position in the data, the
config, the data fingerprint and the legs trained so far.
"""

import os
import pathlib
from collections.abc import Mapping
from typing import Any

import jax
from orbax.checkpoint import v1 as ocp

# What does not change what is trained, so that a run may resume with others:
# sections that only sampling reads or that place it on devices, and single
# fields.
FREE_SECTIONS = frozenset({"image_model", "mesh", "sample"})
FREE_FIELDS = frozenset(
  {
    *(
      f"{section}.{field}"
      for section in ("data", "image_data")
      for field in ("path", "threads", "prefetch", "workers")
    ),
    "train.checkpoint_minutes",
    "train.cpu_devices",
    "train.guidance_scale",
    "train.keep",
    "train.log_every",
    "train.max_minutes",
    "train.prompts",
    "train.sample_every",
    "train.sample_steps",
  }
)


class Checkpoints:
  """The checkpoints under one folder; use as a context manager.

  The newest `keep` are kept. With `writes` the remains of a killed process are
  removed; a reader beside a running training must not do that.
  """

  def __init__(
    self, folder: str | os.PathLike, *, keep: int, writes: bool = True
  ):
    policies = ocp.training.preservation_policies
    self._checkpointer = ocp.training.Checkpointer(
      pathlib.Path(folder).absolute(),
      preservation_policy=policies.LatestN(keep),
      cleanup_tmp_directories=writes,
    )

  def __enter__(self) -> "Checkpoints":
    return self

  def __exit__(self, *exception) -> None:
    self._checkpointer.close()

  @property
  def latest(self) -> int | None:
    """Step of the newest complete checkpoint, or None."""
    newest = self._checkpointer.latest
    return None if newest is None else newest.step

  def save(self, step: int, state: Any, *, record: Mapping[str, Any]) -> None:
    """Writes a checkpoint and waits for it; an existing step is kept.

    Waiting matters: the next step donates the buffers being written.

    Args:
      step: Names the checkpoint.
      state: Any pytree of arrays.
      record: JSON-like description, read back by `record`.
    """
    if step == self.latest:
      return
    self._checkpointer.save_checkpointables(
      step, {"state": state}, force=True, custom_metadata=dict(record)
    )

  def record(self) -> dict[str, Any]:
    """The JSON part of the newest checkpoint."""
    metadata = self._checkpointer.checkpointables_metadata(self.latest)
    return {**metadata.custom_metadata}

  def load(self, like: Any) -> Any:
    """The newest state, with the shapes and shardings of `like`."""
    abstract = jax.tree.map(
      lambda leaf: jax.ShapeDtypeStruct(
        leaf.shape, leaf.dtype, sharding=leaf.sharding
      ),
      like,
    )
    loaded = self._checkpointer.load_checkpointables(
      self.latest, {"state": abstract}
    )
    return loaded["state"]


def flatten(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
  """Nested mapping to {'section.field': value}; sequences become lists."""
  flat = {}
  for name, value in config.items():
    if isinstance(value, Mapping):
      flat |= flatten(value, f"{prefix}{name}.")
    else:
      is_sequence = isinstance(value, tuple | list)
      flat[prefix + name] = list(value) if is_sequence else value
  return flat


def complete(
  config: Mapping[str, Any], defaults: Mapping[str, Any]
) -> dict[str, Any]:
  """A config written by an older version, with the fields it did not know.

  Args:
    config: Sections of fields, as a checkpoint's record has them.
    defaults: Likewise, of `configs.base`; a new field's value there is what
      older versions did.
  """
  return {
    name: {**part, **config.get(name, {})}
    if isinstance(part, Mapping)
    else config.get(name, part)
    for name, part in (dict(config) | dict(defaults)).items()
  }


def check_resumable(
  record: Mapping[str, Any],
  *,
  config: Mapping[str, Any],
  fingerprint: Mapping[str, Any],
) -> None:
  """Checks that a run may go on from a checkpoint.

  Args:
    record: What the checkpoint says, its config made whole by `complete`.
    config: The config of the new process.
    fingerprint: The data of the new process.

  Raises:
    ValueError: Listing every field that differs and matters.
  """
  free = set(FREE_FIELDS)
  if config["optimizer"]["schedule"] == "constant":
    free.add("train.steps")
  differing = _differences(
    _trained(record["config"]), _trained(config), free=free
  )
  differing += _differences(record["data"], fingerprint, prefix="data: ")
  if differing:
    raise ValueError(
      "cannot resume: the checkpoint in the workdir was made with "
      + "; ".join(differing)
      + ". Restore these values, or start in a new workdir with "
      "--config.train.init_from=FOLDER"
    )


def _trained(config: Mapping[str, Any]) -> dict[str, Any]:
  """The config without its free sections."""
  return {
    name: part for name, part in config.items() if name not in FREE_SECTIONS
  }


def _differences(old, new, *, free=frozenset(), prefix="") -> list[str]:
  """'name=old, now new' for every field of two nested mappings."""
  old, new = flatten(old), flatten(new)
  return [
    f"{prefix}{name}={old.get(name)!r} (now {new.get(name)!r})"
    for name in sorted(old.keys() | new.keys())
    if name not in free and old.get(name) != new.get(name)
  ]
