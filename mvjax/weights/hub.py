"""Where a model is: a path, or an id of the Hugging Face hub.

An existing path wins. An id is OWNER/NAME, with @REVISION for a branch, tag or
commit. Files come through huggingface_hub, so its cache, its login and its
offline flag (HF_HUB_OFFLINE) hold. Only what is read is downloaded: configs,
tokens and one set of weights, never pickles.
"""

import http.client
import os
import pathlib
import re
import urllib.request
from collections.abc import Iterable

import huggingface_hub
from huggingface_hub import constants, errors

from mvjax.weights import folder

_ID = re.compile(r"(\w[\w.-]*/\w[\w.-]*)(?:@([\w./-]+))?")
_PATIENCE = 5  # seconds
_REASONS = {
  errors.RepositoryNotFoundError: "there is no such (public) model",
  errors.LocalEntryNotFoundError: "it is not in the hub's cache, and "
  "downloading is switched off (HF_HUB_OFFLINE) or the hub cannot be reached",
}
_PARTS = ("unet", "vae", "text_encoder", "epipolar")
_SMALL = ("model_index.json", "*/*.json", "tokenizer/*.txt")
# Sets of weights, the best first; Flax's are on branches of their own.
_FULL = tuple(
  f"{stem}{ending}"
  for stem in folder.STEMS
  for ending in (".safetensors", "-*-of-*.safetensors")
)
_HALF = tuple(f"{stem}.fp16.safetensors" for stem in folder.STEMS)
_SETS = (_FULL, _HALF, folder.FLAX_FILES)


def local_path(source: str | os.PathLike[str]) -> pathlib.Path:
  """The path itself, or the folder of a hub id, downloaded if it must be.

  Raises:
    FileNotFoundError: neither a path nor an id that can be had.
  """
  path = pathlib.Path(source)
  if path.exists():
    return path
  match = _ID.fullmatch(str(source))
  if match is None:
    raise FileNotFoundError(
      f"{source} does not exist (no {os.path.abspath(source)}), and is not a "
      "hub id (OWNER/NAME or OWNER/NAME@REVISION)"
    )
  home = _download(*match.groups(), patterns=_SMALL)
  for files in _SETS:
    lacking = [part for part in _PARTS if _lacks_weights(home / part)]
    if not lacking:
      break
    home = _download(
      *match.groups(),
      patterns=[f"{part}/{file}" for part in lacking for file in files],
    )
  return home


def is_id(source: str) -> bool:
  """Whether this looks like an id; a path may look so too."""
  return _ID.fullmatch(source) is not None


def _lacks_weights(home: pathlib.Path) -> bool:
  """Whether a component's folder is there without the weights."""
  if not home.is_dir():
    return False
  try:
    folder.weight_files(home)
  except FileNotFoundError:
    return True
  return False


def _download(
  name: str, revision: str | None, *, patterns: Iterable[str]
) -> pathlib.Path:
  """The snapshot folder with all files of these patterns."""
  shown = f"{name}@{revision}" if revision else name
  here = os.path.abspath(shown)
  try:
    return pathlib.Path(
      huggingface_hub.snapshot_download(
        name,
        revision=revision,
        allow_patterns=list(patterns),
        local_files_only=constants.HF_HUB_OFFLINE or _is_silent(),
      )
    )
  except errors.GatedRepoError as error:
    reason = "its owner must grant access first: accept its licence, log in"
    raise FileNotFoundError(f"{shown}: {reason}") from error
  except errors.RevisionNotFoundError as error:
    reason = f"the model has no revision {revision}"
    raise FileNotFoundError(f"{shown}: {reason}") from error
  except (errors.HfHubHTTPError, errors.HFValidationError, OSError) as error:
    reason = " ".join(str(error).split())[:200]
    for kind, known in _REASONS.items():
      if isinstance(error, kind):
        reason = known
    raise FileNotFoundError(
      f"{shown} is neither here (no {here}) nor on the hub: {reason}"
    ) from error


def _is_silent() -> bool:
  """Whether the hub lets us wait; huggingface_hub would do so for ever."""
  ask = urllib.request.Request(constants.ENDPOINT, method="HEAD")
  try:
    with urllib.request.urlopen(ask, timeout=_PATIENCE):
      return False
  except TimeoutError:
    return True
  except (OSError, http.client.HTTPException) as error:
    # What else is wrong, if it is for the library too, it says better.
    return isinstance(getattr(error, "reason", None), TimeoutError)
