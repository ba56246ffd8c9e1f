"""Differences of two pictures of the same thing, pixel by pixel.

All take images in [-1, 1] and give figures in the units of [0, 1] images, as
they are published: L1 is the mean absolute difference, PSNR is 10 log10(1 /
mean squared difference), SSIM is that of Wang et al. 2004 with its Gaussian
window (sigma 1.5), computed by scikit-image and averaged over colours.
"""

import numpy as np
from jaxtyping import Bool, Float
from skimage import metrics

# Where two images are equal, instead of infinity.
HIGHEST_PSNR = 100.0

Images = Float[np.ndarray, "v h w 3"]
Mask = Bool[np.ndarray, "v h w"]


def l1(a: Images, b: Images, mask: Mask | None = None) -> float:
  """Mean absolute difference inside the mask; NaN if that is empty."""
  difference = np.abs(a - b).mean(-1) / 2
  return _mean(difference if mask is None else difference[mask])


def psnr(a: Images, b: Images, mask: Mask | None = None) -> float:
  """PSNR of all views together, inside the mask; NaN if that is empty."""
  square = ((a - b) ** 2).mean(-1) / 4
  error = _mean(square if mask is None else square[mask])
  if error <= 10 ** (-HIGHEST_PSNR / 10):
    return HIGHEST_PSNR
  return float(-10 * np.log10(error))


def mean_psnr(a: Images, b: Images, mask: Mask | None = None) -> float:
  """Mean over views of each view's PSNR, as new views are scored in papers.

  Views whose mask is empty are left out.
  """
  masks = [None] * len(a) if mask is None else mask[:, None]
  values = [
    psnr(x[None], y[None], m) for x, y, m in zip(a, b, masks, strict=True)
  ]
  return _mean(np.array([value for value in values if not np.isnan(value)]))


def ssim(a: Images, b: Images) -> float:
  """Structural similarity, averaged over the views; 1 is equal."""
  return float(
    np.mean(
      [
        metrics.structural_similarity(
          (x + 1) / 2,
          (y + 1) / 2,
          channel_axis=-1,
          data_range=1.0,
          gaussian_weights=True,
          sigma=1.5,
          use_sample_covariance=False,
        )
        for x, y in zip(a, b, strict=True)
      ]
    )
  )


def _mean(values: np.ndarray) -> float:
  return float(values.mean()) if values.size else float("nan")
