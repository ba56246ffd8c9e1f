"""Which assets of a set, and which views of a render, are measured."""

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
from jaxtyping import Float
from scipy import optimize

from data_pipeline import views as view_groups
from mvjax import geometry

T = TypeVar("T")


def evenly(things: Sequence[T], limit: int | None) -> list[T]:
  """No more than `limit`, the middles of equal shares; all of them if None."""
  count = len(things)
  wanted = count if limit is None else min(limit, count)
  return [things[int((i + 0.5) * count / wanted)] for i in range(wanted)]


def spread(record: Mapping[str, Any], num_views: int | None) -> np.ndarray:
  """Views of whole orbits, spread over elevations; any if there are none.

  Args:
    record: of a data set of renders.
    num_views: how many; None: all.

  Raises:
    ValueError: it has fewer.
  """
  cameras = record["camera_to_world"]
  orbits, _ = view_groups.split_groups(cameras, record["group"])
  orbits.sort(key=lambda orbit: cameras[orbit[0], 2, 3])
  everything = np.concatenate(orbits) if orbits else np.arange(len(cameras))
  count = len(everything) if num_views is None else num_views
  _check_count(record, count, len(everything))
  size = len(orbits[0]) if orbits else 1
  if len(everything) % size or count % size:
    size = 1
  units = everything.reshape(-1, size)
  chosen = evenly(list(units), count // size)
  return np.sort(np.array(chosen, int).reshape(-1))


def nearest(record: Mapping[str, Any], like: geometry.Camera) -> np.ndarray:
  """One view for each camera, in its order: least squared angles in all.

  What is front is the object's own affair, so the cameras are turned about
  the vertical by whatever brings the first of them to one of the views.

  Args:
    record: of a data set of renders.
    like: cameras [v].

  Raises:
    ValueError: it has fewer views than there are cameras.
  """
  have = _directions(record["camera_to_world"])
  wanted = _directions(np.asarray(like.camera_to_world))
  _check_count(record, len(wanted), len(have))
  azimuth = np.arctan2(have[:, 1], have[:, 0])
  first = np.arctan2(wanted[0, 1], wanted[0, 0])
  best, chosen = np.inf, None
  for turn in np.unique(np.round(azimuth - first, 3)):
    cosine, sine = np.cos(turn), np.sin(turn)
    turned = wanted @ np.array(
      [[cosine, sine, 0], [-sine, cosine, 0], [0, 0, 1]]
    )
    cost = np.arccos(np.clip(turned @ have.T, -1, 1)) ** 2
    rows, columns = optimize.linear_sum_assignment(cost)
    if (total := cost[rows, columns].sum()) < best:
      best, chosen = total, columns
  return np.asarray(chosen)


def _directions(
  camera_to_world: Float[np.ndarray, "v 4 4"],
) -> Float[np.ndarray, "v 3"]:
  """From the origin to the cameras."""
  position = np.asarray(camera_to_world, np.float64)[:, :3, 3]
  return position / np.linalg.norm(position, axis=-1, keepdims=True)


def _check_count(record: Mapping[str, Any], wanted: int, there: int) -> None:
  if wanted > there:
    raise ValueError(
      f"num_views={wanted}: {record['uid'].decode()} has {there}"
    )
