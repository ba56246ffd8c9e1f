"""Where the object is in images without transparency."""

from typing import Any

import numpy as np
from jaxtyping import Bool, Float
from scipy import ndimage

# Images are in [-1, 1]; compression and soft shadows stay below this.
_DIFFERENCE = 0.1
# Pieces smaller than this share of the largest are specks, and holes smaller
# than this share of the image are highlights.
_SMALLEST_PIECE = 0.05
_LARGEST_HIGHLIGHT = 0.001


def find_masks(
  images: Float[Any, "v h w 3"],
  *,
  allow_empty: bool = False,
) -> tuple[Bool[np.ndarray, "v h w"], Float[np.ndarray, "v 3"]]:
  """Where views in [-1, 1] differ from the median colour of their border.

  Specks are dropped and highlights filled. Parts of the object in the
  background's colour are lost; images with transparency do not have that
  problem.

  Args:
    images: the views.
    allow_empty: a view that shows nothing has an empty mask.

  Returns:
    The masks, and the colour of each view's background.

  Raises:
    ValueError: a view is empty, and may not be.
  """
  images = np.asarray(images, np.float32)
  edges = [images[:, 0], images[:, -1], images[:, :, 0], images[:, :, -1]]
  background = np.median(np.concatenate(edges, 1), 1)
  apart = np.abs(images - background[:, None, None]).max(-1)
  masks = np.stack([_clean(mask) for mask in apart > _DIFFERENCE])
  empty = np.flatnonzero(~masks.any((1, 2)))
  if len(empty) and not allow_empty:
    raise ValueError(
      f"view {empty[0]} shows nothing but its background; leave it out, or "
      "give images with transparency"
    )
  return masks, background


def _clean(mask: Bool[np.ndarray, "h w"]) -> Bool[np.ndarray, "h w"]:
  """Without specks and small holes."""
  labels, _ = ndimage.label(mask)
  sizes = np.bincount(labels.reshape(-1))
  sizes[0] = 0
  mask = (sizes >= max(1, _SMALLEST_PIECE * sizes.max()))[labels]
  holes, _ = ndimage.label(~mask)
  small = np.bincount(holes.reshape(-1)) <= _LARGEST_HIGHLIGHT * mask.size
  small[0] = False
  return mask | small[holes]
