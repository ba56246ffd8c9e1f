"""What is measured: assets, each some views of one object, from any source.

Three sources look alike from here on:

* folders of `launch.py sample`: sample.json, transforms.json, view_*.png;
* folders of other systems: one folder for each prompt with pictures and, where
  cameras are known, a transforms.json (see `viewpoints`) whose frames name
  them, or all name one picture with the views side by side; 16-bit
  `depth_*.png` in the units of `rendered_object.DEPTH_SCALE` may lie beside
  `view_*.png`. In a folder without such folders every picture is an asset of
  one view;
* data sets of renders (`data build`), whose alpha and depth are true.

Nothing is decoded before `Asset.read`, so that sets may be of any size.
"""

import dataclasses
import hashlib
import json
import os
import pathlib
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jaxtyping import Float
from PIL import Image

from data_pipeline import files as file_tools
from data_pipeline import loader
from data_pipeline.renders import rendered_object
from mvjax import geometry, view_choice
from mvjax.generation import viewpoints
from mvjax.reconstruction import masks

_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp"})
# What programs put beside the views of an asset.
_NOT_VIEWS = ("grid.", "depth_", "turntable.")
_POSES = "transforms.json"
# Of what is used of a sample.json here and by those who measure.
_TYPES = {"prompt": str, "seed": int, "metric_cameras": bool}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Views:
  """Decoded views of one asset.

  Attributes:
    image: in [-1, 1]; transparent pictures are put on white.
    alpha: coverage in [0, 1]; None if the pictures are opaque.
    background: colour behind the object of each view; None is white.
    depth: true z-depth, 0 where there is no surface; None if unknown.
    camera: [v]; None if unknown.
  """

  image: Float[np.ndarray, "v h w 3"]
  alpha: Float[np.ndarray, "v h w"] | None = None
  background: Float[np.ndarray, "v 3"] | None = None
  depth: Float[np.ndarray, "v h w"] | None = None
  camera: geometry.Camera | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Asset:
  """Views that belong together, still on disk.

  Attributes:
    name: unique in its set.
    source: the folder or data set that it lies in.
    prompt: the text it was made from; the folder's name if nothing tells.
    digest: changes when a picture or a camera does.
    num_views: how many there are.
    has_cameras: whether their cameras are known.
    record: its sample.json, or nothing.
    read: decodes the views.
  """

  name: str
  source: str
  prompt: str
  digest: str
  num_views: int
  has_cameras: bool
  record: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  read: Callable[[], Views]

  @property
  def metric_cameras(self) -> bool:
    """Whether lens and distance are known; nominal ones are to be searched."""
    return self.record.get("metric_cameras") is not False

  @property
  def cluster(self) -> str:
    """Samples of one prompt with several seeds have it in common."""
    return self.prompt if "seed" in self.record else self.name


def open_set(
  source: str | os.PathLike,
  *,
  limit: int | None = None,
  num_views: int | None = None,
  like: geometry.Camera | None = None,
  split: str = "train",
  looks: Sequence[str] = ("full", "retextured"),
) -> list[Asset]:
  """The assets of a folder or of a data set.

  Args:
    source: a folder of sample folders, one such folder, a folder of pictures,
      or a data set directory.
    limit: no more assets than this, spread evenly over all.
    num_views: of a data set: so many views of every record, from whole orbits
      as far as they go and spread over elevations. Folders are taken whole.
    like: of a data set: those views of every record whose directions are, in
      all, nearest to these cameras', however the object is turned; replaces
      `num_views`.
    split: of a data set: which split.
    looks: of a data set: records with one of these looks.

  Raises:
    FileNotFoundError: there is no such folder.
    ValueError: it holds no pictures; a file in it is damaged.
  """
  path = pathlib.Path(source)
  if not path.is_dir():
    raise FileNotFoundError(f"{path} is not a folder of samples or a data set")
  if is_data_set(path):
    return _open_data_set(
      path,
      limit=limit,
      num_views=num_views,
      like=like,
      split=split,
      looks=tuple(looks),
    )
  if _is_asset(path):
    return [_open_folder(path)]
  folders = sorted(
    child
    for child in path.iterdir()
    if child.is_dir() and not child.name.startswith(".") and holds_views(child)
  )
  # Beside folders of views, pictures are plots and the like.
  found = folders or pictures(path)
  if not found:
    raise ValueError(
      f"{path} holds no views: expected a folder for each prompt with "
      "view_*.png (or other pictures), and transforms.json for cameras"
    )
  return [
    _open_folder(found[i]) if found[i].is_dir() else _open_picture(found[i])
    for i in _evenly(len(found), limit)
  ]


def is_data_set(source: str | os.PathLike) -> bool:
  """Whether a folder is what `data build` wrote."""
  return (pathlib.Path(source) / "dataset_info.json").is_file()


def with_masks(given: Views, *, allow_empty: bool = False) -> Views:
  """The views with alpha: found from the background if the files have none.

  Args:
    given: the views.
    allow_empty: a view that shows nothing has an empty mask.

  Raises:
    ValueError: a view shows nothing, and must not.
  """
  if given.alpha is not None:
    return given
  found, background = masks.find_masks(given.image, allow_empty=allow_empty)
  return dataclasses.replace(
    given, alpha=found.astype(np.float32), background=background
  )


def ring_order(camera: geometry.Camera) -> list[int]:
  """View numbers in order of azimuth; neighbours are consecutive views."""
  position = np.asarray(camera.camera_to_world)[:, :3, 3]
  azimuth = np.arctan2(position[:, 1], position[:, 0])
  return [int(i) for i in np.argsort(np.round(azimuth, 4), kind="stable")]


def ring_pairs(camera: geometry.Camera) -> list[tuple[int, int]]:
  """Every view with the next one around the object, closed to a ring."""
  order = ring_order(camera)
  if len(order) < 3:
    return list(zip(order[:-1], order[1:], strict=True))
  return list(zip(order, order[1:] + order[:1], strict=True))


def take(views: Views, chosen: Sequence[int]) -> Views:
  """Some of the views."""
  index = np.asarray(chosen, int)
  fields = {f.name: getattr(views, f.name) for f in dataclasses.fields(views)}
  return Views(**jax.tree.map(lambda x: np.asarray(x)[index], fields))


def pictures(folder: pathlib.Path) -> list[pathlib.Path]:
  """The pictures in a folder that may be views, by name: 2.png, 10.png."""
  found = [
    file
    for file in folder.iterdir()
    if file.suffix.lower() in _SUFFIXES
    and not file.name.startswith((".", *_NOT_VIEWS))
  ]
  return sorted(found, key=_by_number)


def holds_views(folder: pathlib.Path) -> bool:
  """Whether a folder has pictures, or cameras that say where they are."""
  return (folder / _POSES).is_file() or bool(pictures(folder))


def view_files(folder: pathlib.Path) -> list[pathlib.Path]:
  """The pictures of an asset's views, in the order of its cameras if known.

  Views side by side in one picture name it again and again.

  Raises:
    ValueError: there are not as many pictures as cameras, or not those that
      transforms.json names.
  """
  named = sorted(folder.glob("view_*.png"), key=_by_number)
  found, poses = named or pictures(folder), folder / _POSES
  return _files_of_frames(poses, found) if poses.is_file() else found


def _by_number(file: pathlib.Path) -> list[str | int]:
  """A key that sorts numbers in names by their value."""
  parts = re.split(r"(\d+)", file.name)
  return [int(part) if part.isdecimal() else part for part in parts]


def _is_asset(folder: pathlib.Path) -> bool:
  """Whether the folder itself is one asset, not a folder of assets."""
  return (folder / _POSES).is_file() or any(folder.glob("view_*.png"))


def _open_picture(file: pathlib.Path) -> Asset:
  return Asset(
    name=file.name,
    source=str(file.parent),
    prompt=_as_text(file.stem),
    digest=_digest([file.read_bytes()]),
    num_views=1,
    has_cameras=False,
    read=lambda: _decode_files([file], camera=None, depths=[]),
  )


def _open_folder(folder: pathlib.Path) -> Asset:
  camera, content, poses = None, [b""], folder / _POSES
  if poses.is_file():
    camera, content = viewpoints.read(poses), [poses.read_bytes()]
  files, sample = view_files(folder), _read_sample(folder / "sample.json")
  depths = [
    file.with_name(file.name.replace("view_", "depth_"))
    for file in files
    if file.name.startswith("view_")
  ]
  if len(depths) < len(files) or not all(file.is_file() for file in depths):
    depths = []
  content += [file.read_bytes() for file in (*files, *depths)]
  return Asset(
    name=folder.name,
    source=str(folder.parent),
    prompt=sample.get("prompt") or _as_text(folder.name),
    digest=_digest(content),
    num_views=len(files),
    has_cameras=camera is not None,
    record=sample,
    read=lambda: _decode_files(files, camera=camera, depths=depths),
  )


def _read_sample(file: pathlib.Path) -> dict[str, Any]:
  """The record of a sample; nothing if there is none."""
  if not file.is_file():
    return {}
  try:
    content = json.loads(file.read_text("utf-8"))
  except ValueError as error:
    raise ValueError(f"{file}: is no JSON ({error}); write it again") from error
  if not isinstance(content, dict):
    raise ValueError(
      f'{file}: must be an object, such as {{"prompt": "a sofa"}}'
    )
  for name, kind in _TYPES.items():
    if name in content and not isinstance(content[name], kind):
      raise ValueError(
        f"{file}: {name}={content[name]!r} must be of type {kind.__name__}; "
        "correct it or leave it out"
      )
  return content


def _files_of_frames(
  poses: pathlib.Path, found: Sequence[pathlib.Path]
) -> list[pathlib.Path]:
  """The picture of every frame, in the order of the cameras."""
  content = json.loads(poses.read_text("utf-8"))
  frames = content.get("frames") or [{} for _ in content["views"]]
  if not all("file_path" in frame for frame in frames):
    if len(frames) != len(found):
      raise ValueError(
        f"{poses}: {len(frames)} cameras, but {len(found)} pictures beside "
        "it; name the picture of each frame in file_path"
      )
    return list(found)
  files = []
  for frame in frames:
    file = file_tools.inside(poses.parent, str(frame["file_path"]))
    # NeRF's own files leave the suffix out.
    file = file if file.suffix else file.with_suffix(".png")
    if not file.is_file():
      raise ValueError(f"{poses}: there is no picture {frame['file_path']!r}")
    files.append(file)
  return files


def _decode_files(
  files: Sequence[pathlib.Path],
  *,
  camera: geometry.Camera | None,
  depths: Sequence[pathlib.Path],
) -> Views:
  pictures = [_decode(file, "RGBA") for file in dict.fromkeys(files)]
  if len(pictures) < len(files):
    pictures = _split(pictures, files)
  sizes = {picture.shape[:2] for picture in pictures}
  if len(sizes) > 1:
    raise ValueError(
      f"{files[0].parent}: views of different sizes {sorted(sizes)}; an "
      "asset's views must have one"
    )
  rgba = np.stack(pictures)
  alpha = rgba[..., 3] / 255
  depth = None
  if depths:
    scaled = np.stack([_decode(file) for file in depths])
    depth = scaled / rendered_object.DEPTH_SCALE
  # Rounded, as the picture would be if its file were opaque.
  colour = rgba[..., :3] * alpha[..., None] + 255 * (1 - alpha[..., None])
  return Views(
    image=np.round(colour) / 127.5 - 1,
    alpha=None if (alpha == 1).all() else alpha,
    depth=depth,
    camera=camera,
  )


def _decode(file: pathlib.Path, mode: str | None = None) -> np.ndarray:
  """The levels of a picture, in a mode of Pillow's or in its own."""
  try:
    with Image.open(file) as picture:
      return np.asarray(picture.convert(mode) if mode else picture, np.float32)
  except (OSError, SyntaxError) as error:  # Pillow has no error of its own.
    raise ValueError(
      f"{file}: damaged picture ({error}); write it again or remove its folder"
    ) from error


def _split(
  pictures: Sequence[np.ndarray], files: Sequence[pathlib.Path]
) -> list[np.ndarray]:
  """The views of a strip: one picture, named by all frames, left to right."""
  width = pictures[0].shape[1]
  if len(pictures) > 1 or width % len(files):
    raise ValueError(
      f"{files[0].parent}/transforms.json: {len(files)} frames name "
      f"{len(pictures)} pictures; give each frame its own, or all of them one "
      "strip of views of equal width"
    )
  return np.split(pictures[0], len(files), axis=1)


def _open_data_set(
  path: pathlib.Path,
  *,
  limit: int | None,
  num_views: int | None,
  like: geometry.Camera | None,
  split: str,
  looks: tuple[str, ...],
) -> list[Asset]:
  settings = loader.LoaderSettings(
    path=str(path),
    split=split,
    looks=looks,
    num_views=1,
    orthogonal=0.0,
    nearby=0.0,
    batch_size=1,
  )
  records = loader.records(settings)
  version = loader.fingerprint(settings)["source_digest"]
  return [
    _open_record(
      records,
      number,
      path=path,
      num_views=num_views,
      like=like,
      version=version,
    )
    for number in _evenly(len(records), limit)
  ]


def _open_record(
  records: Any,
  number: int,
  *,
  path: pathlib.Path,
  num_views: int | None,
  like: geometry.Camera | None,
  version: str,
) -> Asset:
  """An asset of a record; `records` is indexed again when it is read."""
  record = records[number]
  if like is None:
    chosen = view_choice.spread(record, num_views)
  else:
    chosen = view_choice.nearest(record, like)
  name = f"{record['uid'].decode()}/{record['look'].decode()}/{number}"

  def read() -> Views:
    again = records[number]
    pixels = loader.decode_views(again, chosen)
    return Views(
      image=pixels.image,
      alpha=pixels.alpha,
      depth=pixels.depth if pixels.depth.any() else None,
      camera=geometry.Camera(
        camera_to_world=again["camera_to_world"][chosen],
        intrinsics=pixels.intrinsics,
      ),
    )

  return Asset(
    name=name,
    source=str(path),
    prompt=record["captions"][0].decode(),
    digest=_digest([version.encode(), name.encode(), chosen.tobytes()]),
    num_views=len(chosen),
    has_cameras=True,
    read=read,
  )


def _evenly(count: int, limit: int | None) -> list[int]:
  """The middles of `limit` equal shares of 0 .. count - 1."""
  wanted = count if limit is None else min(limit, count)
  return [int((i + 0.5) * count / wanted) for i in range(wanted)]


def _as_text(name: str) -> str:
  return name.replace("_", " ").replace("-", " ").strip()


def _digest(parts: Sequence[bytes]) -> str:
  found = hashlib.sha256()
  for part in parts:
    found.update(hashlib.sha256(part).digest())
  return found.hexdigest()[:16]
