"""`launch.py data`: objects to renders to a data set."""

import os
import pathlib
from collections.abc import Mapping

from mvjax.commands import flags


def add(commands) -> None:
  """Adds the commands of `data`."""
  commands = flags.group(commands, "data", "objects to renders to a data set")
  fetch = flags.command(commands, "fetch", fetch_objects)
  fetch.add_argument("--out", default="runs/objects", help="folder to create")
  fetch.add_argument("--deb", help="the package's file, where there is no apt")
  render = flags.command(commands, "render", render_objects)
  render.add_argument(
    "--objects",
    default="runs/objects",
    help="what `data fetch` wrote, or any folder of OBJ and GLB files",
  )
  render.add_argument(
    "--captions",
    help="captions file (CSV or JSON lines) inside any other folder: its list "
    "of models, of any length",
  )
  render.add_argument("--out", default="runs/renders", help="folder of renders")
  render.add_argument("--workers", type=int, default=os.cpu_count())
  render.add_argument("--image_size", type=int, default=128, help="pixels")
  render.add_argument("--limit", type=int, help="only the first so many")
  render.add_argument(
    "--time_limit", type=float, default=300.0, help="seconds for an object"
  )
  render.add_argument(
    "--memory_limit", type=float, default=4.0, help="GiB for a worker"
  )
  render.add_argument(
    "--shard", help="this machine's part of the objects, as 3/64"
  )
  render.add_argument(
    "--retry", action="store_true", help="try again what failed before"
  )
  build = flags.command(commands, "build", build_data)
  build.add_argument("--renders", default="runs/renders", help="what to read")
  build.add_argument("--out", default="runs/data", help="TFDS data directory")
  build.add_argument(
    "--layout", help="read a public layout instead: zero123, spad, transforms"
  )
  build.add_argument("--captions", help="JSON captions of a public layout")
  build.add_argument(
    "--shard", help="build one part of many, as 3/64; --out is the same for all"
  )
  encode = flags.command(commands, "encode", encode_data)
  encode.add_argument(
    "--renders", default="runs/data/renders/1.0.0", help="data set to encode"
  )
  encode.add_argument(
    "--model", required=True, help="folder that trainings will start from"
  )
  encode.add_argument("--out", default="runs/data", help="TFDS data directory")
  encode.add_argument(
    "--looks", type=flags.words, default="simplified,full,retextured"
  )
  encode.add_argument(
    "--batch_size", type=int, default=32, help="views at a time"
  )
  encode.add_argument(
    "--shard", help="encode some of the data set's parts, as 3/64"
  )


def fetch_objects(out: str, deb: str | None) -> None:
  """Downloads and unpacks the furniture package (120 MB)."""
  from data_pipeline import objects

  found = objects.fetch(
    pathlib.Path(out), deb=pathlib.Path(deb) if deb else None
  )
  print(f"{out}: {len(found)} objects")


def render_objects(
  objects: str,
  captions: str | None,
  out: str,
  workers: int,
  image_size: int,
  limit: int | None,
  time_limit: float,
  memory_limit: float,
  shard: str | None,
  retry: bool,
) -> None:
  """Renders objects: colours in three looks, depth, cameras."""
  from data_pipeline import objects as sources
  from data_pipeline import render, render_run, shards

  if limit is not None and limit < 1:
    raise ValueError(f"limit={limit}: must be at least 1")
  folder = pathlib.Path(objects)
  if not folder.is_dir():
    raise ValueError(
      f"objects={objects}: no such folder; run `launch.py data fetch`, or give "
      "a folder of models and its --captions"
    )
  found = (
    sources.read_folder(folder, captions=captions)
    if captions
    else sources.catalogue(folder)
  )
  part = None if shard is None else shards.Shard.parse(shard)
  wanted = found[:limit]
  failures = render_run.render_all(
    wanted,
    pathlib.Path(out),
    settings=render.RenderSettings(image_size=image_size),
    workers=workers,
    time_limit=time_limit,
    memory_limit=memory_limit,
    shard=part,
    retry=retry,
  )
  own = wanted if part is None else part.part(wanted)
  print(f"{out}: {len(own) - len(failures)} objects rendered")
  _tell_quarantine(failures)


def build_data(
  renders: str,
  out: str,
  layout: str | None,
  captions: str | None,
  shard: str | None,
) -> None:
  """Turns folders of renders into a TFDS data set."""
  from data_pipeline import build, public_layouts, shards

  part = None if shard is None else shards.Shard.parse(shard)
  root = pathlib.Path(renders)
  if not root.is_dir():
    raise ValueError(
      f"renders={renders}: no such folder; run `launch.py data render` first"
    )
  if layout is None:
    if captions is not None:
      raise ValueError(
        f"captions={captions}: is for a --layout; our renders have their own"
      )
    built = build.build_renders(root, out, shard=part)
  else:
    if captions is None:
      raise ValueError("captions is missing; a public layout has none inside")
    if part is not None:
      raise ValueError("shard: a public layout is built in one part")
    found, refused = public_layouts.find_objects(
      root, layout, captions=pathlib.Path(captions)
    )
    built = build.build(found, out, refused=refused)
  print(built.folder)
  _tell_quarantine(built.refused)


def _tell_quarantine(reasons: Mapping[str, str]) -> None:
  for uid, reason in reasons.items():
    print(f"  {uid}: in quarantine, {reason}")


def encode_data(
  renders: str,
  model: str,
  out: str,
  looks: tuple[str, ...],
  batch_size: int,
  shard: str | None,
) -> None:
  """Encodes renders and captions once, for trainings with frozen encoders."""
  from data_pipeline import shards
  from mvjax.training import precompute

  if batch_size < 1:
    raise ValueError(f"batch_size={batch_size}: must be at least 1")
  for folder in precompute.encode_data_set(
    renders,
    model,
    out=out,
    looks=looks,
    batch_size=batch_size,
    shard=None if shard is None else shards.Shard.parse(shard),
  ):
    print(folder)
