"""Whether a run may go on from a checkpoint: the same config, data and weights.

What is compared is what decides the numbers; where they are computed, logged or
kept is free.
"""

from collections.abc import Mapping
from typing import Any

# What does not change what is trained, so that a run may resume with others:
# sections that only sampling reads or that place it on devices, and single
# fields.
FREE_SECTIONS = frozenset({"image_model", "mesh", "processes", "sample"})
FREE_FIELDS = frozenset(
  {
    *(
      f"{section}.{field}"
      for section in ("data", "image_data")
      for field in (
        "path",
        "threads",
        "prefetch",
        "workers",
        "validation_split",
      )
    ),
    *(
      f"train.{field}"
      for field in (
        "accumulate",
        "checkpoint_dir",
        "checkpoint_minutes",
        "cpu_devices",
        "guidance_scale",
        "keep",
        "keep_every",
        "log_every",
        "max_minutes",
        "profile_at",
        "profile_steps",
        "prompts",
        "remat",
        "sample_every",
        "sample_steps",
        "validation_batches",
        "validation_every",
        "wandb",
      )
    ),
  }
)


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
  weights: Mapping[str, str],
) -> None:
  """Checks that a run may go on from a checkpoint.

  Args:
    record: What the checkpoint says, its config made whole by `complete`.
    config: The config of the new process.
    fingerprint: The data of the new process.
    weights: What `train.init_from` holds now of what is not trained, see
      `record.weights_of`.

  Raises:
    ValueError: Listing every field that differs and matters.
  """
  free = set(FREE_FIELDS)
  if config["optimizer"]["schedule"] == "constant":
    free.add("train.steps")
  # Older versions wrote down where the weights were, not which.
  if "weights" in record:
    free.add("train.init_from")
  differing = _differences(
    _trained(record["config"]), _trained(config), free=free
  )
  differing += _differences(record["data"], fingerprint, prefix="data: ")
  differing += _other_weights(record, weights)
  if differing:
    raise ValueError(
      "cannot resume: the checkpoint in the workdir was made with "
      + "; ".join(differing)
      + ". Restore these values, or start in a new workdir with "
      "--config.train.init_from=FOLDER"
    )


def check_weights(
  record: Mapping[str, Any], weights: Mapping[str, str]
) -> None:
  """Checks that what a run did not train is what it began with.

  Args:
    record: What the checkpoint says.
    weights: What `train.init_from` holds now of what is not trained, see
      `record.weights_of`.

  Raises:
    ValueError: Naming the components that differ.
  """
  if differing := _other_weights(record, weights):
    raise ValueError(
      f"train.init_from={record['config']['train']['init_from']}: the run in "
      f"the workdir began with {'; '.join(differing)}. Restore that folder"
    )


def _other_weights(
  record: Mapping[str, Any], weights: Mapping[str, str]
) -> list[str]:
  """Components that differ; records of older versions have none, or all."""
  known = record.get("weights")
  if known is None:
    return []
  wanted = {part: known.get(part, "") for part in weights}
  return _differences(wanted, weights, prefix="train.init_from/")


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
