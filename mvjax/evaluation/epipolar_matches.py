"""TSED: do matched points of neighbouring views lie on each other's lines?

Thresholded symmetric epipolar distance (Yu et al. 2023, arXiv:2304.10700). SIFT
points of two views are matched; for each match the distances of both points
to the epipolar line of the other are averaged. A pair of views is consistent
if it has at least `MIN_MATCHES` matches whose median distance is below
`MAX_MEDIAN` pixels (of a picture 256 pixels wide); TSED is the share of
consistent pairs among neighbours around the object.

A pair without matches counts as inconsistent, so on small pictures, smooth
objects or views far apart even the truth fails: where ground-truth renders
score below `LEAST_USEFUL` the figure says nothing and is left out.
"""

import cv2
import numpy as np
from jaxtyping import Float

from mvjax.views import asset_views

MIN_MATCHES = 10
MAX_MEDIAN = 2.0
LEAST_USEFUL = 0.5
_NOMINAL_WIDTH = 256
# Lowe's test: the best match must be so much nearer than the second best.
_RATIO = 0.75

Points = Float[np.ndarray, "n 2"]


def tsed(given: asset_views.Views) -> dict[str, float]:
  """TSED of views with cameras, and the mean number of matches of a pair.

  Raises:
    ValueError: views are not square; an axis of the others has its own unit.
  """
  height, size = given.image.shape[1:3]
  if height != size:
    raise ValueError(f"views of {size}x{height} pixels: must be square")
  found = [_detect(image) for image in given.image]
  consistent, counts = [], []
  for i, j in asset_views.ring_pairs(given.camera):
    a, b = _match(found[i], found[j])
    lines = fundamental(given.camera, i, j)
    distances = symmetric_distances(a / size, b / size, lines)
    median = np.median(distances) if len(distances) else np.inf
    consistent.append(
      len(distances) >= MIN_MATCHES and median * _NOMINAL_WIDTH < MAX_MEDIAN
    )
    counts.append(len(distances))
  return {
    "tsed": float(np.mean(consistent)),
    "tsed_matches": float(np.mean(counts)),
  }


def fundamental(camera, i: int, j: int) -> Float[np.ndarray, "3 3"]:
  """F with x_j' F x_i = 0 for (u, v, 1) in units of the image size."""
  pose = np.asarray(camera.camera_to_world, np.float64)
  lens = np.linalg.inv(np.asarray(camera.intrinsics, np.float64))
  relative = np.linalg.inv(pose[j]) @ pose[i]
  x, y, z = relative[:3, 3]
  cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
  return lens[j].T @ cross @ relative[:3, :3] @ lens[i]


def symmetric_distances(
  a: Points, b: Points, lines: Float[np.ndarray, "3 3"]
) -> Float[np.ndarray, " n"]:
  """Mean distance of each pair of points to each other's epipolar lines."""
  ones = np.ones((len(a), 1))
  x, y = np.hstack([a, ones]), np.hstack([b, ones])
  of_a, of_b = x @ lines.T, y @ lines
  residual = np.abs((y * of_a).sum(1))
  return (
    residual / np.maximum(np.linalg.norm(of_a[:, :2], axis=1), 1e-12)
    + residual / np.maximum(np.linalg.norm(of_b[:, :2], axis=1), 1e-12)
  ) / 2


def _detect(image: Float[np.ndarray, "h w 3"]):
  levels = np.round(np.clip((image + 1) * 127.5, 0, 255)).astype(np.uint8)
  grey = cv2.cvtColor(levels, cv2.COLOR_RGB2GRAY)
  points, descriptors = cv2.SIFT_create().detectAndCompute(grey, None)
  # OpenCV's pixel centres are at whole numbers, ours at half numbers.
  places = np.array([p.pt for p in points], np.float64).reshape(-1, 2) + 0.5
  if descriptors is None:
    descriptors = np.zeros((0, 128), np.float32)
  return places, descriptors


def _match(a, b) -> tuple[Points, Points]:
  """Mutually best matches that pass Lowe's test in one direction."""
  (places_a, of_a), (places_b, of_b) = a, b
  if len(of_a) < 2 or len(of_b) < 2:
    return np.zeros((0, 2)), np.zeros((0, 2))
  matcher = cv2.BFMatcher(cv2.NORM_L2)
  back = {m.queryIdx: m.trainIdx for m in matcher.match(of_b, of_a)}
  pairs = [
    (best.queryIdx, best.trainIdx)
    for best, second in matcher.knnMatch(of_a, of_b, k=2)
    if best.distance < _RATIO * second.distance
    and back[best.trainIdx] == best.queryIdx
  ]
  chosen = np.array(pairs, int).reshape(-1, 2)
  return places_a[chosen[:, 0]], places_b[chosen[:, 1]]
