"""Words of a data set's captions: names to ask for, and where texts have them.

Records are those of `loader`, undecoded.
"""

import collections
import os
import re
from collections.abc import Iterable, Mapping
from typing import Any

from data_pipeline import loader
from mvjax import atomic


def retrieval_prompts(
  dataset: str | os.PathLike,
  *,
  out: str | os.PathLike | None = None,
  num_names: int = 20,
  per_name: int = 4,
  looks: tuple[str, ...] = ("retextured",),
) -> list[str]:
  """Training captions of the frequent names, `per_name` for each.

  Different captions are taken as far as there are any, going round the
  objects of a name.

  Args:
    dataset: data set whose captions are used.
    out: text file for the prompts, one on a line, or None.
    num_names: how many names.
    per_name: prompts of every name.
    looks: looks whose captions are used.

  Raises:
    ValueError: fewer names than asked for, or no prompt of each.
  """
  if per_name < 1:
    raise ValueError(f"per_name={per_name}: must be 1 or more")
  records = loader.records(settings(dataset, looks))
  names = frequent_names(records, num_names)
  captions = collections.defaultdict(lambda: collections.defaultdict(list))
  for record in records:
    for caption in captions_of(record):
      name = find_word(caption, names)
      if name and name == name_of(record):
        captions[name][uid_of(record)].append(caption)
  prompts = []
  for name in names:
    columns = captions[name].values()
    depth = max(map(len, columns), default=0)
    turns = [c[i] for i in range(depth) for c in columns if i < len(c)]
    turns = list(dict.fromkeys(turns)) or [f"a {name}"]
    prompts += [turns[i % len(turns)] for i in range(per_name)]
  if out:
    atomic.write_text(out, "\n".join(prompts) + "\n")
  return prompts


def frequent_names(
  records: Iterable[Mapping[str, Any]], count: int
) -> list[str]:
  """The names with the most objects so captioned, ties alphabetically.

  Raises:
    ValueError: if there are fewer names, or none is asked for.
  """
  objects = collections.defaultdict(set)
  for record in records:
    name = name_of(record)
    if any(find_word(text, [name]) for text in captions_of(record)):
      objects[name].add(uid_of(record))
  if not 1 <= count <= len(objects):
    raise ValueError(
      f"num_names={count}: the data has {len(objects)} names; choose 1 to that"
    )
  return sorted(objects, key=lambda name: (-len(objects[name]), name))[:count]


def find_word(prompt: str, words: Iterable[str]) -> str | None:
  """The longest of the words that the prompt contains, as whole words."""
  found = [
    word
    for word in words
    if re.search(rf"\b{re.escape(word)}\b", prompt, re.IGNORECASE)
  ]
  return max(found, key=len, default=None)


def settings(
  dataset: str | os.PathLike, looks: tuple[str, ...]
) -> loader.LoaderSettings:
  """The training records of these looks."""
  return loader.LoaderSettings(
    path=str(dataset), looks=looks, num_views=1, batch_size=1
  )


def name_of(record: Mapping[str, Any]) -> str:
  """The object's name, in lower case."""
  return record["name"].decode().strip().casefold()


def material_of(record: Mapping[str, Any]) -> str:
  """The material of the look; empty for the object's own."""
  return record["material"].decode()


def uid_of(record: Mapping[str, Any]) -> str:
  """The object."""
  return record["uid"].decode()


def captions_of(record: Mapping[str, Any]) -> list[str]:
  """All texts of the look."""
  return [caption.decode() for caption in record["captions"]]
