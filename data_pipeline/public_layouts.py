"""Reads the render folders of other projects as `RenderedObject`.

* Zero123: `000.png, 000.npy, 001.png, ...` in one folder. Each array is
  [3, 4], world to camera, Blender camera axes (x right, y up, looking along
  -z). No intrinsics are stored: all renders use a 35 mm lens on a 32 mm
  sensor, a field of view of 49.13 degrees.
* SPAD: `images/0.png, cameras/0.npy, ...`. Each .npy is a pickled dict
  {fov: radians, matrix_world: 16 numbers}, the latter camera to world in
  Blender camera axes; no pickle is run (`numpy_file`). Depths (EXR) are not
  read.
* transforms: the `transforms.json` of NeRF tools (`nerf`), with the same kind
  of matrices; `file_path` names each frame's image. MVDream published no files;
  this is what most Blender scripts for its training data write, and what the
  sampler here writes. A frame may have a `group`, a whole number (views without
  one are one group).

The worlds are Blender's, z up, into which a glTF object is imported with its
front along -y. The world is turned about z so that the front looks along +x,
as everywhere in this project; a description can name another front. Lengths
are kept: a Zero123 object fills a unit cube, so it lies inside the unit ball.
"""

import dataclasses
import functools
import logging
import math
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8

from data_pipeline import fields, files, nerf, pictures
from data_pipeline.renders import rendered_object
from mvjax.weights import numpy_file

ZERO123_FIELD_OF_VIEW = 2 * math.atan(32 / 2 / 35)
"""Radians: Blender's sensor width and focal length in millimetres."""

_MAX_CAMERA_BYTES = 1 << 16
"""A .npy file of one camera has less than a thousand."""

_QUARTER_TURNS = {"+x": 0, "-y": 1, "-x": 2, "+y": 3}
"""From the direction an object looks along to +x, counter-clockwise."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Description:
  """What the public layouts leave to a separate captions file.

  Attributes:
    name: what the object is called.
    captions: at least one sentence.
    category: may be empty.
    front: the direction in the file's world that the object looks along.
  """

  name: str
  captions: tuple[str, ...]
  category: str = ""
  front: str = "-y"

  @classmethod
  def of(cls, row: fields.Fields) -> "Description":
    """From an entry of the captions file.

    Raises:
      ValueError: a field is wrong, or there is no such field.
    """
    known = [field.name for field in dataclasses.fields(cls)]
    if unknown := row.content.keys() - set(known):
      raise row.error(min(unknown), f"must be one of {', '.join(known)}")
    front = row.get("front", str, default=cls.front)
    if front not in _QUARTER_TURNS:
      raise row.error("front", f"must be one of {', '.join(_QUARTER_TURNS)}")
    return cls(
      name=row.words("name"),
      captions=row.texts("captions"),
      category=row.get("category", str, default=""),
      front=front,
    )


def read_zero123(
  folder: pathlib.Path, description: Description
) -> rendered_object.RenderedObject:
  """One object of the Zero123 layout; its uid is the folder's name.

  Raises:
    ValueError: if images and cameras do not pair up, or none is usable.
  """
  images = sorted(folder.glob("[0-9]*.png"))
  arrays = [image.with_suffix(".npy") for image in images]
  absent = [file.name for file in arrays if not file.exists()]
  if absent or not images:
    raise ValueError(
      f"{folder}: needs pairs 000.png, 000.npy; "
      f"{'no image' if not images else 'missing ' + ', '.join(absent)}"
    )
  bottom = np.array([[0, 0, 0, 1]], np.float64)
  extrinsics = [_load_npy(file) for file in arrays]
  for file, matrix in zip(arrays, extrinsics, strict=True):
    if not isinstance(matrix, np.ndarray) or matrix.shape != (3, 4):
      raise ValueError(f"{file}: must be a [3, 4] matrix of numbers")
  # A singular matrix is left non-finite, and is dropped below.
  cameras = [_invert(np.concatenate([m, bottom])) for m in extrinsics]
  lens = _lens(ZERO123_FIELD_OF_VIEW)
  return _assemble(
    folder,
    description,
    images,
    np.stack(cameras),
    intrinsics=np.tile(lens, (len(images), 1, 1)),
    groups=[0] * len(images),
  )


def read_spad(
  folder: pathlib.Path, description: Description
) -> rendered_object.RenderedObject:
  """One object of the SPAD layout; its uid is the folder's name.

  Views without a camera file, which occur, are left out.

  Raises:
    ValueError: if a camera file is not what it should be, or none is usable.
  """
  cameras, lenses, images = [], [], []
  for file in sorted(folder.glob("cameras/*.npy")):
    image = folder / "images" / f"{file.stem}.png"
    if not image.exists():
      continue
    camera = _load_npy(file)
    if not isinstance(camera, dict) or {"fov", "matrix_world"} - set(camera):
      raise ValueError(f"{file}: needs a dict with fov and matrix_world")
    try:
      cameras.append(_matrix(camera["matrix_world"]))
      lenses.append(_lens(camera["fov"]))
    except ValueError as error:
      raise ValueError(f"{file}: {error}") from error
    images.append(image)
  if not images:
    raise ValueError(f"{folder}: needs pairs images/0.png, cameras/0.npy")
  return _assemble(
    folder,
    description,
    images,
    np.stack(cameras),
    intrinsics=np.stack(lenses),
    groups=[0] * len(images),
  )


def read_transforms(
  folder: pathlib.Path, description: Description
) -> rendered_object.RenderedObject:
  """One object with a `transforms.json`; its uid is the folder's name.

  Raises:
    ValueError: if the file lacks a field or names an image outside of the
      folder, or no view is usable.
  """
  frames = nerf.read(fields.Fields.read(folder / "transforms.json"))
  return _assemble(
    folder,
    description,
    [files.picture(folder, frame, "file_path") for frame in frames.records],
    frames.poses,
    intrinsics=frames.intrinsics,
    groups=[rendered_object.group_of(f, default=0) for f in frames.records],
  )


LAYOUTS: Mapping[
  str,
  Callable[[pathlib.Path, Description], rendered_object.RenderedObject],
] = {
  "zero123": read_zero123,
  "spad": read_spad,
  "transforms": read_transforms,
}


def find_objects(
  root: pathlib.Path, layout: str, *, captions: pathlib.Path
) -> tuple[list[rendered_object.RenderedObject], dict[str, str]]:
  """Every object under `root` that the captions file describes.

  Args:
    root: one folder for each object; what has none is passed over.
    layout: a key of `LAYOUTS`.
    captions: JSON, `{folder name: {name, captions: [..]}}`, optionally with
      `category` and `front` (see `Description`).

  Returns:
    The objects, and why others are not among them, by folder name.

  Raises:
    ValueError: for an unknown layout, a captions file that is none, or where
      no folder is described.
  """
  if layout not in LAYOUTS:
    raise ValueError(f"layout={layout}: must be one of {', '.join(LAYOUTS)}")
  rows = fields.Fields.read(captions)
  found, refused = [], {}
  for uid in sorted(rows.content):
    try:
      folder = files.inside(root, uid)
      if not folder.is_dir():
        logging.warning("%s: no such folder, skipped", folder)
        continue
      row = fields.Fields.of(rows.content[uid], f"{captions}: {uid}")
      found.append(LAYOUTS[layout](folder, Description.of(row)))
    except ValueError as error:
      refused[uid] = str(error)
  if not found and not refused:
    raise ValueError(f"{root}: no folder in there is described in {captions}")
  return found, refused


def _assemble(
  folder: pathlib.Path,
  description: Description,
  images: Sequence[pathlib.Path],
  cameras: Float[np.ndarray, "v 4 4"],
  *,
  intrinsics: Float[np.ndarray, "v 3 3"],
  groups: Sequence[int],
) -> rendered_object.RenderedObject:
  """Turns the world, drops broken cameras and defers reading the pixels."""
  # Blender's camera axes to OpenCV's: y and z point the other way.
  cameras = cameras * np.array([1.0, -1.0, -1.0, 1.0])
  quarter = np.array([[0, -1, 0, 0], [1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
  turns = _QUARTER_TURNS[description.front]
  with np.errstate(invalid="ignore", over="ignore"):  # dropped below
    cameras = np.linalg.matrix_power(quarter, turns) @ cameras
    away = np.linalg.norm(cameras[:, :3, 3], axis=-1)
  # A camera at the origin, inside the object, occurs in public data (SPAD's
  # samples); so do singular matrices.
  usable = np.isfinite(cameras).all((1, 2))
  usable &= away > 1e-3
  kept = [view for view, good in enumerate(usable) if good]
  if not kept:
    raise ValueError(f"{folder}: no usable camera")
  if len(kept) < len(images):
    broken = [images[i].name for i in range(len(images)) if i not in kept]
    logging.warning("%s: dropped broken cameras %s", folder, broken)
  images = [images[i] for i in kept]
  look = rendered_object.Look(
    look="source",
    material=None,
    captions=description.captions,
  )
  camera = rendered_object.check_cameras(
    str(folder), cameras[kept], intrinsics=intrinsics[kept]
  )
  text = f"{description}{cameras[kept].tolist()}{intrinsics[kept].tolist()}"
  return rendered_object.RenderedObject(
    uid=folder.name,
    name=description.name,
    noun=description.name,
    category=description.category,
    camera_to_world=camera.camera_to_world,
    intrinsics=camera.intrinsics,
    group=np.array(groups, np.int32)[kept],
    looks=(look,),
    digest=rendered_object.digest_files(images, text),
    read_images=functools.partial(_read_images, images),
    read_depths=lambda: None,
  )


def _invert(matrix: Float[np.ndarray, "4 4"]) -> Float[np.ndarray, "4 4"]:
  """The inverse, or NaN where there is none."""
  if not np.isfinite(matrix).all() or abs(np.linalg.det(matrix)) < 1e-6:
    return np.full((4, 4), np.nan)
  return np.linalg.inv(matrix)


def _load_npy(file: pathlib.Path) -> Any:
  return numpy_file.load_npy(file, max_bytes=_MAX_CAMERA_BYTES)


def _matrix(value: Any) -> Float[np.ndarray, "4 4"]:
  """16 numbers, flat or in rows, of lists or arrays.

  A hostile file's lists may hold themselves, so no others are walked into.
  """
  numbers = _listed(value)
  if len(numbers) == 4:
    numbers = [number for row in numbers for number in _listed(row)]
  if len(numbers) != 16 or any(type(n) not in (int, float) for n in numbers):
    raise ValueError("matrix_world must be 16 numbers")
  try:
    return np.array(numbers, np.float64).reshape(4, 4)
  except OverflowError as error:
    raise ValueError("matrix_world has a number beyond all floats") from error


def _listed(value: Any) -> Sequence[Any]:
  """The parts of a short list, tuple or array; of anything else none."""
  if isinstance(value, np.ndarray) and value.ndim and value.size <= 16:
    return value.tolist()
  return value if isinstance(value, (list, tuple)) and len(value) <= 16 else ()


def _lens(field_of_view: Any) -> Float[np.ndarray, "3 3"]:
  """Normalised intrinsics of a centred square image; the angle in radians."""
  number = type(field_of_view) in (int, float)
  if not number or not 0 < field_of_view < math.pi:
    shown = repr(field_of_view)[:40] if number else type(field_of_view).__name__
    raise ValueError(
      f"field of view {shown}: must be a number of radians between 0 and pi"
    )
  focal = 0.5 / math.tan(field_of_view / 2)
  return np.array([[focal, 0, 0.5], [0, focal, 0.5], [0, 0, 1]])


def _read_images(
  paths: Sequence[pathlib.Path], look: int
) -> UInt8[np.ndarray, "v h w 4"]:
  """All views as RGBA; an image without alpha is opaque.

  Raises:
    ValueError: unless all are square and of one size.
  """
  del look  # there is one
  images = pictures.read(paths, "RGBA")
  shapes = {image.shape for image in images}
  if len(shapes) > 1 or images[0].shape[0] != images[0].shape[1]:
    raise ValueError(f"{paths[0].parent}: images must be square, of one size")
  return np.stack(images)
