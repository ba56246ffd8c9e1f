"""What a run writes down about itself, for resuming and for later legs."""

import importlib.metadata
import json
import os
import pathlib
import subprocess
import time
from collections.abc import Mapping
from typing import Any

import ml_collections
from etils import epath

from configs import base
from mvjax import atomic, records, storage
from mvjax.models import loading
from mvjax.training import checkpoint, resumable

FILE = "training.json"
_CONFIG = "config.json"


class Journal:
  """Positions in the data and the chain of legs that led here.

  A leg is one process's part of a run. The chain begins with the legs of the
  folder that `train.init_from` names. A run that starts from a folder of its
  own task and data takes up that folder's data positions.

  Attributes:
    positions: Batches taken, by kind of batch.
  """

  def __init__(
    self,
    config: ml_collections.ConfigDict,
    fingerprint: Mapping[str, Any],
    *,
    weights: Mapping[str, str],
    checkpoints: checkpoint.Checkpoints,
  ):
    """Begins, or goes on where the newest checkpoint is.

    Args:
      config: Of the run.
      fingerprint: Of the data, by kind of batch.
      weights: Those that it starts from, see `weights_of`.
      checkpoints: Of the run.

    Raises:
      ValueError: The newest checkpoint was made with others, by field.
    """
    self._config = as_json(config)
    self._fingerprint = as_json(fingerprint)
    self._weights = dict(weights)
    self._began = time.monotonic()
    self.positions = dict.fromkeys(fingerprint, 0)
    first_step = 0
    if checkpoints.latest is not None:
      before = of_newest(checkpoints)
      resumable.check_resumable(
        before,
        config=self._config,
        fingerprint=self._fingerprint,
        weights=self._weights,
      )
      self._legs = before["legs"]
      self.positions = dict(before["positions"])
      first_step = checkpoints.latest
    else:
      before = read(config.train.init_from)
      self._legs = before.get("legs", [])
      if (
        before.get("task") == config.task
        and before.get("data") == self._fingerprint
      ):
        self.positions = dict(before["positions"])
    self._leg = {
      "task": config.task,
      "init_from": config.train.init_from,
      "first_step": first_step,
    }

  def at(self, step: int) -> dict[str, Any]:
    """The record to store with the state after `step` updates."""
    minutes = round((time.monotonic() - self._began) / 60, 2)
    leg = self._leg | {"last_step": step, "minutes": minutes}
    return {
      "task": self._config["task"],
      "step": step,
      "positions": dict(self.positions),
      "legs": [*self._legs, leg],
      "data": self._fingerprint,
      "weights": self._weights,
      "config": self._config,
    }


def of_newest(checkpoints: checkpoint.Checkpoints) -> dict[str, Any]:
  """The record of the newest checkpoint, with the fields of today's config."""
  found = checkpoints.record()
  defaults = as_json(base.get_config())
  return found | {"config": resumable.complete(found["config"], defaults)}


def weights_of(config: ml_collections.ConfigDict) -> dict[str, str]:
  """Hashes of what a run takes from `train.init_from` and does not train.

  It is in no checkpoint, so only this tells whether it is still the same.
  Reads all of it, a second for each GB.

  Args:
    config: Of the run.

  Returns:
    By component; '' for one that is not there.
  """
  home = pathlib.Path(config.train.init_from)
  return {
    part: loading.fingerprint(home, part)
    if config.train.init_from and (home / part).is_dir()
    else ""
    for part in _untrained(config)
  }


def _untrained(config: ml_collections.ConfigDict) -> list[str]:
  """Components that a task, or a group of rate 0, leaves as they are."""
  held = {name for name, rate in config.optimizer.groups.items() if not rate}
  if config.task == "vae":
    return ["vae"] if config.train.freeze_encoder or "vae" in held else []
  frozen = held - {"vae"} | {"vae", "tokenizer"}
  if config.task == "multiview":
    frozen |= {"text_encoder"}
  return sorted(frozen)


def read(folder: str) -> dict[str, Any]:
  """The training.json of a published folder; empty if it has none."""
  path = pathlib.Path(folder) / FILE
  return json.loads(path.read_text()) if folder and path.is_file() else {}


def as_json(config: Any) -> Any:
  """Nested mappings and sequences as JSON gives them back."""
  if isinstance(config, ml_collections.ConfigDict):
    config = config.to_dict()
  return json.loads(json.dumps(config))


def write_description(
  workdir: pathlib.Path, config: ml_collections.ConfigDict
) -> None:
  """Writes config.json: the resolved config, versions and git revision."""
  versions = {
    name: importlib.metadata.version(name)
    for name in ("jax", "flax", "optax", "orbax-checkpoint", "grain")
  }
  content = {
    "config": as_json(config),
    "versions": versions,
    "git": _revision(),
  }
  text = json.dumps(content, indent=2) + "\n"
  atomic.write_text(workdir / _CONFIG, text)


def local_folder(workdir: str | os.PathLike[str]) -> pathlib.Path:
  """The workdir as an absolute path.

  Raises:
    ValueError: It is an address, which would become a folder named `gs:`.
  """
  if storage.is_address(workdir):
    raise ValueError(
      f"workdir={workdir}: must be a local folder, for logs and samples; "
      "--config.train.checkpoint_dir=gs://BUCKET/... is for the checkpoints"
    )
  return pathlib.Path(workdir).absolute()


def check_place(workdir: pathlib.Path) -> None:
  """Checks that what a workdir holds under our names is a run's.

  Raises:
    ValueError: a file or folder of others is there.
  """
  described = workdir / _CONFIG
  records.check_own(described, ("config", "versions"))
  if not described.exists():
    for name in ("metrics.jsonl", "tensorboard", "samples", "profile"):
      if os.path.lexists(workdir / name):
        raise records.foreign(workdir / name)


def checkpoint_folder(
  workdir: pathlib.Path, config: ml_collections.ConfigDict | None = None
) -> epath.Path:
  """Where the checkpoints of a run are; by default as its workdir says."""
  if config is not None:
    chosen = config.train.checkpoint_dir
  else:
    path = workdir / _CONFIG
    written = json.loads(path.read_text())["config"] if path.exists() else {}
    chosen = written.get("train", {}).get("checkpoint_dir", "")
  return epath.Path(chosen or workdir / "checkpoints")


def _revision() -> str | None:
  """The commit of the source tree, or None outside a checkout."""
  home = pathlib.Path(__file__).parent
  command = ["git", "-C", str(home), "rev-parse", "HEAD"]
  try:
    done = subprocess.run(command, capture_output=True, text=True, check=True)
  except (OSError, subprocess.CalledProcessError):
    return None
  return done.stdout.strip()
