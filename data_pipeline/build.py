"""Folders of renders to a TFDS data set on disk."""

import logging
import pathlib
import sys
import tempfile
from collections.abc import Sequence

import tensorflow_datasets as tfds
from tensorflow_datasets.core import shuffle

from data_pipeline.renders import rendered_object, renders_dataset_builder


def find_rendered(
  renders: pathlib.Path,
) -> list[rendered_object.RenderedObject]:
  """Every finished render folder under `renders`, sorted by folder name.

  Folders that start with a dot or lack meta.json are unfinished.

  Raises:
    ValueError: if there is none.
  """
  folders = sorted(
    path.parent
    for path in renders.glob("*/meta.json")
    if not path.parent.name.startswith(".")
  )
  if not folders:
    raise ValueError(
      f"{renders}: no folder with a meta.json; render some objects first"
    )
  return [rendered_object.read_render_folder(folder) for folder in folders]


def build(
  objects: Sequence[rendered_object.RenderedObject], out: pathlib.Path
) -> pathlib.Path:
  """Writes `out`/renders/<version>, or finds it already there.

  The data set appears under its name only when it is complete.

  Args:
    objects: from `find_rendered` or from a reader of `public_layouts`.
    out: the TFDS data directory.

  Returns:
    The folder of the data set: `LoaderSettings.path`.

  Raises:
    ValueError: if two objects share a uid, or another data set is there.
  """
  uids = [item.uid for item in objects]
  if not uids or len(set(uids)) < len(uids):
    twice = sorted({uid for uid in uids if uids.count(uid) > 1})
    raise ValueError(
      f"objects: needs at least one, and no uid twice; got {len(uids)}, "
      f"twice: {', '.join(twice) or 'none'}"
    )
  builder = renders_dataset_builder.Builder(
    objects=objects, data_dir=out, file_format="array_record"
  )
  folder = pathlib.Path(builder.data_dir)
  if folder.exists():
    there = tfds.builder_from_directory(folder).info.metadata or {}
    digest = renders_dataset_builder.source_digest(objects)
    if there.get("source_digest") != digest:
      raise ValueError(
        f"{folder}: holds a data set made from other renders; choose another "
        "directory or delete this one"
      )
    logging.info("%s: already built", folder)
    return folder
  tfds.disable_progress_bar()  # the builder shows one with a known total
  # TFDS 4.9.10 collects a split in memory and above this many bytes in files,
  # which it can open only with TensorFlow. 2026-11-22
  shuffle.MAX_MEM_BUFFER_SIZE = sys.maxsize
  with tempfile.TemporaryDirectory() as downloads:
    builder.download_and_prepare(download_dir=downloads)
  return folder
