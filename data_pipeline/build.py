"""Folders of renders to a TFDS data set on disk, whole or in parts."""

import contextlib
import dataclasses
import functools
import hashlib
import json
import logging
import os
import pathlib
import sys
import tempfile
import types
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import tensorflow_datasets as tfds
import tqdm
from etils import epath
from tensorflow_datasets.core import shuffle

from data_pipeline import fields, shards
from data_pipeline.renders import (
  rendered_object,
  renders_dataset_builder,
  splits,
)
from mvjax import atomic, storage

# Beside the render folders: which of them all are held out.
_HELD_OUT = "held_out_objects.json"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Built:
  """A data set, and what is not in it.

  Attributes:
    folder: the data set: `LoaderSettings.path`.
    refused: the reason for each object that could not be read, by uid.
  """

  folder: epath.Path
  refused: Mapping[str, str]


def _folders(renders: pathlib.Path) -> list[pathlib.Path]:
  """Folders that start with a dot or lack meta.json are unfinished."""
  found = sorted(
    path.parent
    for path in renders.glob("*/meta.json")
    if not path.parent.name.startswith(".")
  )
  if not found:
    raise ValueError(
      f"{renders}: no folder with a meta.json; render some objects first"
    )
  return found


def build_renders(
  renders: pathlib.Path,
  out: epath.PathLike,
  *,
  shard: shards.Shard | None = None,
) -> Built:
  """Builds the data set of all finished render folders, or a worker's part.

  Which objects are held out depends on all of them, so that is decided first
  and kept beside the folders; every worker comes to the same answer.

  Args:
    renders: what `data render` wrote; it must not grow while workers build.
    out: the TFDS data directory.
    shard: the part to build; None: everything, in one folder.

  Raises:
    ValueError: see `build`; or there are no renders, or not one for a part.
  """
  folders = _folders(renders)
  held_out = _held_out(renders, folders)
  own = folders if shard is None else shard.part(folders)
  if not own:
    raise ValueError(
      f"shard: of {len(folders)} objects none is left for part {shard.name}; "
      "make fewer parts"
    )
  found, refused = [], {}
  for folder in own:
    try:
      found.append(rendered_object.read_render_folder(folder))
    except ValueError as error:
      refused[folder.name] = str(error)
  return build(
    found,
    out if shard is None else epath.Path(out) / shard.name,
    held_out=held_out,
    refused=refused,
  )


def _held_out(
  renders: pathlib.Path, folders: Sequence[pathlib.Path]
) -> frozenset[str]:
  """The held-out uids of all objects, computed once for a set of folders."""
  listing = "\n".join(folder.name for folder in folders)
  digest = hashlib.sha256(listing.encode()).hexdigest()
  path = renders / _HELD_OUT
  if path.exists():
    found = fields.Fields.read(path)
    if found.get("folders_sha256", str) == digest:
      return frozenset(found.get("uids", list))
  named = []
  for folder in tqdm.tqdm(folders, desc="names", unit="object", disable=None):
    with contextlib.suppress(ValueError):  # refused by whose part it is
      meta = fields.Fields.read(folder / "meta.json")
      named.append((meta.words("uid"), meta.words("name")))
  uids = splits.held_out_objects(named)
  content = {"folders_sha256": digest, "uids": sorted(uids)}
  atomic.write_text(path, json.dumps(content))
  return uids


def build(
  objects: Sequence[rendered_object.RenderedObject],
  out: epath.PathLike,
  *,
  held_out: frozenset[str] | None = None,
  refused: Mapping[str, str] = types.MappingProxyType({}),
) -> Built:
  """Writes `out`/renders/<version>, or finds it already there.

  An object whose pictures cannot be decoded is left out.

  Args:
    objects: from `rendered_object` or from a reader of `public_layouts`.
    out: the TFDS data directory.
    held_out: uids of the split `held_out_objects`; None: decided by these
      objects.
    refused: why others are not among them, by uid.

  Raises:
    ValueError: if two objects share a uid, none is left, or another data set
      is there.
  """
  uids = [item.uid for item in objects]
  if len(set(uids)) < len(uids):
    twice = sorted({uid for uid in uids if uids.count(uid) > 1})
    raise ValueError(f"objects: no uid may be there twice: {', '.join(twice)}")
  refused = {**refused, **_undecodable(objects)}
  objects = [item for item in objects if item.uid not in refused]
  if not objects:
    reason = next(iter(refused.values()), "there is none")
    raise ValueError(f"objects: of {len(refused)} none can be read; {reason}")
  if held_out is None:
    held_out = splits.held_out_objects((o.uid, o.name) for o in objects)
  folder = write(
    functools.partial(
      renders_dataset_builder.Builder, objects=objects, held_out=held_out
    ),
    out,
    {"source_digest": renders_dataset_builder.source_digest(objects)},
  )
  return Built(folder=folder, refused=refused)


def _undecodable(
  objects: Sequence[rendered_object.RenderedObject],
) -> dict[str, str]:
  """Objects with a broken picture: a data set cannot leave them out later."""
  found = {}
  for item in tqdm.tqdm(objects, desc="check", unit="object", disable=None):
    try:
      item.read_depths()
      for number in range(len(item.looks)):
        item.read_images(number)
    except ValueError as error:
      found[item.uid] = str(error)
  return found


def write(
  make: Callable[..., tfds.core.GeneratorBasedBuilder],
  out: epath.PathLike,
  identity: Mapping[str, Any],
) -> epath.Path:
  """Writes a builder's data set, which appears only when it is complete.

  ArrayRecord files can be written on local disks only, so a data set for
  gs:// is built there and copied, what makes it a data set last.

  Args:
    make: the builder, but for its data directory and file format.
    out: the TFDS data directory.
    identity: metadata by which a data set already there is known as the same.

  Returns:
    The data set's folder.

  Raises:
    ValueError: if another data set is there.
  """
  with tempfile.TemporaryDirectory() as scratch:
    home = scratch if storage.is_address(out) else os.fspath(out)
    builder = make(data_dir=home, file_format="array_record")
    built = epath.Path(builder.data_dir)
    folder = epath.Path(out) / os.path.relpath(built, home)
    if not _is_there(folder, identity):
      _prepare(builder)
      if storage.is_address(out):
        storage.copy(built, folder, last=shards.INFO)
  return folder


def _is_there(folder: epath.Path, identity: Mapping[str, Any]) -> bool:
  """Whether a data set is there; another one is an error."""
  if not (folder / shards.INFO).exists():
    # On a disk ours appear at once; TFDS would take anything for one.
    if folder.exists() and not storage.is_address(folder):
      raise ValueError(
        f"{folder}: is there and is no data set; move it away, or choose "
        "another directory"
      )
    return False
  with shards.reading(str(folder)):
    there = tfds.builder_from_directory(folder).info.metadata or {}
  if any(there.get(key) != value for key, value in identity.items()):
    raise ValueError(
      f"{folder}: holds a data set made from something else; choose another "
      "directory or delete this one"
    )
  logging.info("%s: already built", folder)
  return True


def _prepare(builder: tfds.core.GeneratorBasedBuilder) -> None:
  tfds.disable_progress_bar()  # the builders show one with a known total
  # TFDS 4.9.10 collects a split in memory and above this many bytes in files,
  # which it can open only with TensorFlow. 2026-11-22
  shuffle.MAX_MEM_BUFFER_SIZE = sys.maxsize
  with tempfile.TemporaryDirectory() as downloads:
    builder.download_and_prepare(download_dir=downloads)
