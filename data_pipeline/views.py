"""Which views of an object make an example, and what to call them.

Views come in groups. A group whose cameras share height and distance and
are spread evenly around the z axis is an orbit (four of them: orthogonal
views); every other group is a cluster (nearby views). This is read off the
cameras, so that foreign data needs no labels.
"""

import numpy as np
from jaxtyping import Float, Int


def split_groups(
  camera_to_world: Float[np.ndarray, "v 4 4"], group: Int[np.ndarray, " v"]
) -> tuple[list[Int[np.ndarray, " n"]], list[Int[np.ndarray, " n"]]]:
  """The view numbers of every orbit and of every cluster."""
  orbits, clusters = [], []
  for number in np.unique(group):
    members = np.flatnonzero(group == number)
    evenly = _is_orbit(camera_to_world[members, :3, 3])
    (orbits if evenly else clusters).append(members)
  return orbits, clusters


def _is_orbit(positions: Float[np.ndarray, "n 3"]) -> bool:
  """Whether cameras share height and distance and divide the circle."""
  count = len(positions)
  scale = np.linalg.norm(positions, axis=-1).max()
  radii = np.linalg.norm(positions[:, :2], axis=-1)
  level = np.ptp(positions[:, 2]) + np.ptp(radii) < 1e-3 * scale
  azimuths = np.sort(np.arctan2(positions[:, 1], positions[:, 0]))
  gaps = np.diff(azimuths, append=azimuths[0] + 2 * np.pi)
  even = np.abs(gaps - 2 * np.pi / count).max() < 1e-2
  return bool(count > 1 and level and even)


def choose_views(
  rng: np.random.Generator,
  num_views: int,
  *,
  camera_to_world: Float[np.ndarray, "v 4 4"],
  group: Int[np.ndarray, " v"],
  orthogonal: float,
  nearby: float,
) -> Int[np.ndarray, " n"]:
  """Draws `num_views` different views, in ascending order.

  Args:
    rng: the source of randomness.
    num_views: how many; a single view is drawn from all of them.
    camera_to_world: cameras of all views.
    group: the group of every view.
    orthogonal: probability that all come from one orbit.
    nearby: probability that all come from one cluster; what is left to 1 is
      the probability of any views at all.

  Raises:
    ValueError: if no group, or the object, has that many views.
  """
  everything = [np.arange(len(group))]
  draw = rng.random()
  if num_views == 1 or draw >= orthogonal + nearby:
    kind, pools = "object", everything
  else:
    orbits, clusters = split_groups(camera_to_world, group)
    is_orbit = draw < orthogonal
    kind, pools = ("orbit", orbits) if is_orbit else ("cluster", clusters)
  pools = [pool for pool in pools if len(pool) >= num_views]
  if not pools:
    raise ValueError(
      f"num_views={num_views}: no {kind} has that many views; ask for fewer "
      "or lower the probability of this kind"
    )
  pool = pools[rng.integers(len(pools))]
  return np.sort(rng.choice(pool, num_views, replace=False))


def view_word(camera_to_world: Float[np.ndarray, "4 4"]) -> str:
  """'front', 'side' or 'back', by the azimuth of the camera.

  Objects look along +x; each word covers a quarter of the circle (side: the
  two quarters to the left and right). The diagonals are front and back,
  whichever way they were rounded.
  """
  x, y = camera_to_world[:2, 3]
  if abs(y) > (1 + 1e-4) * abs(x):
    return "side"
  return "front" if x > 0 else "back"
