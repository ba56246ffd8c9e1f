"""Data sets in parts: many workers build them, a loader reads them as one.

A data set lies in one TFDS folder, or in parts that were each built on their
own: `00003-of-00064/renders/1.0.0`. Paths may be of any kind that `epath`
reads and array_record does too (local, gs://).
"""

import contextlib
import dataclasses
import functools
import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeVar

import tensorflow_datasets as tfds
from etils import epath
from google.protobuf import json_format

# The file that makes a folder a data set.
INFO = "dataset_info.json"
_PART = re.compile(r"(\d{5,})-of-(\d{5,})")

T = TypeVar("T")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Shard:
  """One worker's part: every `count`-th item, from `index` on."""

  index: int
  count: int

  @classmethod
  def parse(cls, text: str) -> "Shard":
    """Reads 'INDEX/COUNT', INDEX from 0.

    Raises:
      ValueError: It is something else.
    """
    match = re.fullmatch(r"(\d+)/(\d+)", text)
    if match is None or not int(match[1]) < int(match[2]):
      raise ValueError(
        f"shard={text!r}: give INDEX/COUNT with 0 <= INDEX < COUNT, as 3/64"
      )
    return cls(index=int(match[1]), count=int(match[2]))

  @property
  def name(self) -> str:
    """Name of the part's folder."""
    return f"{self.index:05d}-of-{self.count:05d}"

  def part(self, items: Sequence[T]) -> Sequence[T]:
    """The worker's own items."""
    return items[self.index :: self.count]


@dataclasses.dataclass(frozen=True, kw_only=True)
class DataSet:
  """A data set with all its parts.

  Attributes:
    builder: TFDS builder that reads all parts in order.
    digest: Hash of what the data set was made from.
    index: For each split the columns that describe its records, see
      `renders_dataset_builder.Builder`.
    metadata: Of the first part.
  """

  builder: Any
  digest: str
  index: Mapping[str, Mapping[str, list]]
  metadata: Mapping[str, Any]


def folders(path: epath.PathLike) -> list[epath.Path]:
  """The TFDS folders of the data set at a path, in order.

  Args:
    path: A TFDS folder, or a folder of parts.

  Raises:
    ValueError: There is no data set, or not all of its parts.
  """
  root = epath.Path(path)
  if (root / INFO).exists():
    return [root]
  found = {}
  for folder in root.iterdir() if root.is_dir() else ():
    if match := _PART.fullmatch(folder.name):
      for info in folder.glob(f"*/*/{INFO}"):
        found[int(match[1]), int(match[2])] = info.parent
  counts = {count for _, count in found}
  if not found:
    raise ValueError(
      f"path={path}: no data set; build one with `launch.py data`"
    )
  if len(counts) > 1:
    raise ValueError(
      f"path={path}: parts of different divisions, of "
      f"{' and of '.join(map(str, sorted(counts)))}; remove those of one"
    )
  (count,) = counts
  missing = [i for i in range(count) if (i, count) not in found]
  if missing:
    raise ValueError(
      f"path={path}: {len(missing)} of {count} parts are missing; build them "
      f"with --shard={missing[0]}/{count} and so on"
    )
  return [found[part] for part in sorted(found)]


def open_data_set(path: epath.PathLike) -> DataSet:
  """Opens the data set at a path; see `folders` for what it may be.

  Its descriptions are read once, and again when one of them has changed.

  Raises:
    ValueError: There is none, or its parts do not belong together.
  """
  homes = tuple(folders(path))
  stats = [(home / INFO).stat() for home in homes]
  versions = tuple((stat.mtime, stat.length) for stat in stats)
  with reading(f"path={path}"):
    return _opened(str(path), homes, versions)


@contextlib.contextmanager
def reading(what: str) -> Iterator[None]:
  """Errors of what reads a data set are one line.

  Raises:
    ValueError: a file of it is damaged, or absent.
  """
  try:
    yield
  except DataSetError:
    raise
  # TFDS, protobuf and array_record have none of their own for most of it.
  except (
    AttributeError,
    LookupError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
    json_format.Error,
  ) as error:
    reason = " ".join(str(error).split()) or type(error).__name__
    raise DataSetError(
      f"{what}: damaged data set ({reason}); build it again"
    ) from error


class DataSetError(ValueError):
  """A data set that cannot be read, or not as it is."""


@functools.lru_cache(maxsize=8)
def _opened(
  path: str,
  homes: tuple[epath.Path, ...],
  versions: tuple[tuple[int, int], ...],
) -> DataSet:
  """The data set in these folders, whose descriptions have these versions."""
  del versions  # of what is kept
  parts = [tfds.builder_from_directory(home) for home in homes]
  if not all("noun" in part.info.features for part in parts):
    raise DataSetError(
      f"path={path}: was built before pairs were held out by noun; render and "
      "build it again (`launch.py data render`, `data build`)"
    )
  infos = [part.info.metadata for part in parts]
  sources = [info["source_digest"] for info in infos]
  kinds = {(part.name, str(part.version)) for part in parts}
  made_by = {info.get("model_digest") for info in infos}
  if len(kinds) > 1 or len(made_by) > 1:
    raise DataSetError(
      f"path={path}: its parts are of different versions or models; build "
      "them all with one"
    )
  index: dict[str, dict[str, list]] = {}
  for info in infos:
    for split, columns in info["index"].items():
      merged = index.setdefault(split, {name: [] for name in columns})
      for name, column in columns.items():
        merged[name] += column
  return DataSet(
    builder=parts[0]
    if len(parts) == 1
    else tfds.builder_from_directories(homes),
    digest=sources[0]
    if len(parts) == 1
    else hashlib.sha256("".join(sources).encode()).hexdigest(),
    index=index,
    metadata=infos[0],
  )
