"""What our single files say of themselves, in the header of safetensors.

Names and shapes leave open what a network predicts, how many heads and norm
groups it has and, for other vocabularies than CLIP's, how texts become
tokens. One entry of the header says it, as JSON: the configs by component,
the schedule and the tokenizer's files.
"""

import json
import pathlib
import tempfile
from collections.abc import Mapping
from typing import Any

from mvjax import tokenizer
from mvjax.weights import component

ENTRY = "mvjax"
PARTS = {"unet", "vae", "text_encoder"}
_FILES = (
  "merges.txt",
  "special_tokens_map.json",
  "tokenizer_config.json",
  "vocab.json",
)

Header = Mapping[str, str]


def describe(
  components: Mapping[str, component.Component],
  scheduler: Mapping[str, Any],
  *,
  tokens: tokenizer.Tokenizer,
) -> dict[str, str]:
  """The header entry for a file with these components."""
  described: dict[str, Any] = {
    "configs": {name: dict(part.config) for name, part in components.items()},
    "scheduler": dict(scheduler),
  }
  if tokens.vocab_size != tokenizer.CLIP_VOCAB_SIZE:
    with tempfile.TemporaryDirectory() as folder:
      tokens.save(folder)
      described["tokenizer"] = {
        name: (pathlib.Path(folder) / name).read_text(encoding="utf-8")
        for name in _FILES
      }
  return {ENTRY: json.dumps(described)}


def read(header: Header | None, *, source: str) -> dict[str, Any] | None:
  """`configs`, `scheduler` and perhaps `tokenizer`; None if not described.

  Raises:
    ValueError: the entry is damaged; names the file.
  """
  if not header or ENTRY not in header:
    return None
  try:
    described = json.loads(header[ENTRY])
    lacking = PARTS - described["configs"].keys()
    if lacking:
      raise LookupError(f"no config of {', '.join(sorted(lacking))}")
    return {**described, "scheduler": dict(described["scheduler"])}
  except (AttributeError, LookupError, TypeError, ValueError) as error:
    raise _damaged(error, source=source) from error


def read_tokenizer(
  header: Header | None, *, source: str
) -> tokenizer.Tokenizer | None:
  """The tokenizer of a described file; None if it has CLIP's.

  Raises:
    ValueError: the entry is damaged; names the file.
  """
  files = (read(header, source=source) or {}).get("tokenizer")
  if files is None:
    return None
  try:
    with tempfile.TemporaryDirectory() as folder:
      for name in _FILES:
        (pathlib.Path(folder) / name).write_text(files[name], encoding="utf-8")
      return tokenizer.Tokenizer.load(folder)
  except (LookupError, TypeError, ValueError) as error:
    raise _damaged(error, source=source) from error


def _damaged(error: Exception, *, source: str) -> ValueError:
  return ValueError(
    f"{source}: the header entry {ENTRY!r} is damaged ({error}): write the "
    "file again"
  )
