"""What a result folder holds, ready to be shown.

A result is a folder of `sample` or `reconstruct`, or any folder with pictures
and perhaps transforms.json (see `view_sets`). sample.json and
reconstruction.json stay the records; nothing here is kept elsewhere.
"""

import dataclasses
import json
import math
import os
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

from data_pipeline import fields
from mvjax.reconstruction import asset_folder
from mvjax.views import sample_record, view_files, viewpoints

# What is shown of sample.json beside its metrics, besides prompt and seed.
_SHOWN = ("settings", "cameras", "models", "versions", "device")
_RECORDS = (sample_record.NAME, asset_folder.RECORD, view_files.POSES)
# What is shown of reconstruction.json.
_FIGURES = {
  "psnr_input_views": "PSNR on its views (dB)",
  "psnr_input_views_object": "PSNR on its views, object only (dB)",
  "seconds": "seconds to reconstruct",
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Result:
  """A result folder; files are named relative to it.

  Attributes:
    folder: where it is.
    title: its prompt, or the folder's name.
    seed: of the sample; None if it is not one of ours.
    views: file and caption of every view.
    thumbnail: a picture of it, or None.
    turntables: file and caption of every animation.
    glb: the asset's file, or None.
    downloads: files to link to.
    note: what the views leave open about the asset; may be empty.
    metrics: finite numbers by name, or None where there is none.
    settings: values by heading and name.
  """

  folder: pathlib.Path
  title: str
  seed: int | None
  views: list[tuple[str, str]]
  thumbnail: str | None
  turntables: list[tuple[str, str]]
  glb: str | None
  downloads: list[str]
  note: str
  metrics: dict[str, float | int | None]
  settings: dict[str, dict[str, str]]


def read_all(out: str | os.PathLike) -> list[Result]:
  """The results in a folder, by name of their folder.

  Raises:
    FileNotFoundError: there is no such folder.
    ValueError: it holds no result, or one whose files cannot be read.
  """
  out = pathlib.Path(out)
  if not out.is_dir():
    raise FileNotFoundError(f"out={out}: there is no such folder")
  folders = sorted(
    path
    for path in out.iterdir()
    if path.is_dir() and not path.name.startswith(".") and _is_result(path)
  )
  if not folders:
    inside = " (it is one itself: give the folder around it)"
    raise ValueError(
      f"out={out}: holds no folder of views or of an asset"
      f"{inside if _is_result(out) else ''}; `launch.py sample` makes them"
    )
  return [read(folder) for folder in folders]


def read(folder: pathlib.Path) -> Result:
  """One result.

  Raises:
    ValueError: one line about a record or cameras that cannot be read, or
      pictures that do not go with them.
  """
  sample = sample_record.read(folder)
  made = _read_asset(folder / asset_folder.RECORD)
  views = _views(folder)
  files = [path.name for path in folder.iterdir() if path.is_file()]
  files += [file for file, _ in views]
  # The record is written last: without it the other files may be half there.
  asset = [asset_folder.GLB, asset_folder.PLY] if made else []
  turns = {
    "turntable.gif": "the views",
    **({asset_folder.TURNTABLE: "the asset"} if made else {}),
  }
  pictures = ["grid.png", *(file for file, _ in views), *turns]
  settings = {
    "Sampling": _flatten({k: sample[k] for k in _SHOWN if k in sample}),
    "Reconstruction": _flatten(made.get("made_of", {})),
  }
  return Result(
    folder=folder,
    title=str(sample.get("prompt") or folder.name),
    seed=sample.get("seed"),
    views=views,
    thumbnail=next((file for file in pictures if file in files), None),
    turntables=[pair for pair in turns.items() if pair[0] in files],
    glb=next((f for f in asset[:1] if f in files), None),
    downloads=[file for file in (*asset, *_RECORDS) if file in files],
    note=str(made.get("undetermined", {}).get("note", "")),
    metrics=_finite(_sampling_metrics(sample) | _asset_metrics(made)),
    settings={name: values for name, values in settings.items() if values},
  )


def read_metrics(
  report: str | os.PathLike, out: str | os.PathLike
) -> dict[str, dict[str, float | None]]:
  """What `evaluate consistency` found out about the results in a folder.

  Args:
    report: its consistency.json.
    out: the folder of the results.

  Returns:
    Figures by the name of the result's folder.

  Raises:
    FileNotFoundError: there is no such file.
    ValueError: it is no such report, or says nothing of this folder.
  """
  path = pathlib.Path(report)
  if not path.is_file():
    raise FileNotFoundError(f"metrics={path}: there is no such file")
  methods = fields.Fields.read(path).objects_by_name("methods")
  folders = {
    str(method.get("folder", str, "")): {
      name: {key: figures.get(key, float, None) for key in figures.content}
      for name, figures in method.objects_by_name("assets").items()
    }
    for method in methods.values()
  }
  for folder, assets in folders.items():
    if assets and pathlib.Path(folder).resolve() == pathlib.Path(out).resolve():
      return assets
  raise ValueError(
    f"metrics={path}: has no figures of the assets in {out}, only of "
    f"{', '.join(folders) or 'nothing'}; give the consistency.json of "
    "`evaluate consistency`"
  )


def with_metrics(
  result: Result, metrics: Mapping[str, float | int | None]
) -> Result:
  """The result with more metrics, those that are not finite as None."""
  return dataclasses.replace(
    result, metrics=result.metrics | _finite(dict(metrics))
  )


def _is_result(folder: pathlib.Path) -> bool:
  made = (folder / asset_folder.RECORD).is_file()
  return made or view_files.holds_views(folder)


def _read_asset(file: pathlib.Path) -> Mapping[str, Any]:
  """The record of an asset; nothing if there is none."""
  if not file.is_file():
    return {}
  made = fields.Fields.read(file)
  made.get("made_of", dict, {})
  made.get("undetermined", dict, {})
  for name in _FIGURES:
    made.get(name, float, 0.0)
  return made.content


def _views(folder: pathlib.Path) -> list[tuple[str, str]]:
  """Views with their directions, where cameras are known."""
  directions, poses = [], folder / view_files.POSES
  if poses.is_file():
    directions = viewpoints.directions(viewpoints.read(poses))
  found = list(dict.fromkeys(view_files.of_asset(folder)))
  captions = [path.stem for path in found]
  if len(directions) == len(found):
    captions = [f"azimuth {a:.0f}°, elevation {e:.0f}°" for a, e in directions]
  names = [path.relative_to(folder).as_posix() for path in found]
  return list(zip(names, captions, strict=True))


def _sampling_metrics(sample: Mapping[str, Any]) -> dict[str, float]:
  """Seconds of a sample without compilation."""
  if "seconds_of_batch" not in sample:
    return {}
  parts = sample["seconds_of_batch"].items()
  seconds = sum(value for part, value in parts if part != "compile")
  return {"seconds to sample": seconds / sample["batch_size"]}


def _asset_metrics(made: Mapping[str, Any]) -> dict[str, float]:
  """How well the fitted field shows the views, and what it took."""
  # Seconds of making programs, too, tell nothing of the asset.
  hidden = "seconds" if made.get("includes_compilation") else None
  return {
    name: made[key]
    for key, name in _FIGURES.items()
    if key in made and key != hidden
  }


def _finite(
  metrics: dict[str, float | int | None],
) -> dict[str, float | int | None]:
  return {
    name: value if value is not None and math.isfinite(value) else None
    for name, value in metrics.items()
  }


def _flatten(values: Mapping[str, Any]) -> dict[str, str]:
  return dict(_leaves("", values))


def _leaves(path: str, value: Any) -> Iterator[tuple[str, str]]:
  """Names as `outer.inner`; the names of a record's sections are left out."""
  if isinstance(value, Mapping):
    for name, inner in value.items():
      prefix = f"{path}.{name}".lstrip(".")
      yield from _leaves("" if prefix == "settings" else prefix, inner)
  else:
    text = value if isinstance(value, str) else json.dumps(value)
    yield path, text or "–"
