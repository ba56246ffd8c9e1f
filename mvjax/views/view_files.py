"""Which files of a folder are the views of an asset, and in which order."""

import pathlib
import re
from collections.abc import Sequence

from data_pipeline import fields
from data_pipeline import files as file_tools

POSES = "transforms.json"
"""Where the cameras of a folder are; see `viewpoints`."""
_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp"})
# What programs put beside the views of an asset.
_NOT_VIEWS = ("grid.", "depth_", "turntable.")


def pictures(folder: pathlib.Path) -> list[pathlib.Path]:
  """The pictures in a folder that may be views, by name: 2.png, 10.png."""
  found = [
    file
    for file in folder.iterdir()
    if file.suffix.lower() in _SUFFIXES
    and file.is_file()
    and not file.name.startswith((".", *_NOT_VIEWS))
  ]
  return sorted(found, key=_by_number)


def holds_views(folder: pathlib.Path) -> bool:
  """Whether a folder has pictures, or cameras that say where they are."""
  poses = folder / POSES
  names_them = poses.is_file() and b'"file_path"' in poses.read_bytes()
  return names_them or bool(pictures(folder))


def is_asset(folder: pathlib.Path) -> bool:
  """Whether the folder itself is one asset, not a folder of assets."""
  return (folder / POSES).is_file() or any(folder.glob("view_*.png"))


def of_asset(folder: pathlib.Path) -> list[pathlib.Path]:
  """The pictures of an asset's views, in the order of its cameras if known.

  Views side by side in one picture name it again and again.

  Raises:
    ValueError: there are not as many pictures as cameras, or not those that
      transforms.json names.
  """
  named = sorted(folder.glob("view_*.png"), key=_by_number)
  found, poses = named or pictures(folder), folder / POSES
  return _files_of_frames(poses, found) if poses.is_file() else found


def _files_of_frames(
  poses: pathlib.Path, found: Sequence[pathlib.Path]
) -> list[pathlib.Path]:
  """The picture of every frame, in the order of the cameras."""
  content = fields.Fields.read(poses)
  name = "frames" if content.content.get("frames") else "views"
  frames = content.objects(name)
  if not all("file_path" in frame.content for frame in frames):
    if len(frames) != len(found):
      raise ValueError(
        f"{poses}: {len(frames)} cameras, but {len(found)} pictures beside "
        "it; name the picture of each frame in file_path"
      )
    return list(found)
  files = []
  for frame in frames:
    file = file_tools.picture(poses.parent, frame, "file_path")
    if not file.is_file():
      raise frame.error("file_path", f"must be a file in {poses.parent}")
    # An absolute name of a file in the folder is one of the folder, too.
    within = file.resolve().relative_to(poses.parent.resolve())
    files.append(poses.parent / within)
  return files


def _by_number(file: pathlib.Path) -> list[str | int]:
  """A key that sorts numbers in names by their value."""
  parts = re.split(r"(\d+)", file.name)
  return [int(part) if part.isdecimal() else part for part in parts]
