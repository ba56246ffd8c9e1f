import numpy as np
import pytest
from scipy import ndimage
from skimage import metrics

from mvjax import pixel_metrics


@pytest.fixture
def pair():
  rng = np.random.default_rng(0)
  a = ndimage.gaussian_filter(rng.uniform(-1, 1, (2, 32, 32, 3)), (0, 2, 2, 0))
  b = np.clip(a + 0.1 * rng.standard_normal(a.shape), -1, 1)
  return a.astype(np.float32), b.astype(np.float32)


def test_psnr_against_scikit_image(pair):
  a, b = pair
  expected = metrics.peak_signal_noise_ratio(
    (a + 1) / 2, (b + 1) / 2, data_range=1.0
  )
  assert pixel_metrics.psnr(a, b) == pytest.approx(expected, rel=1e-5)
  assert pixel_metrics.psnr(a, a) == pixel_metrics.HIGHEST_PSNR


def test_known_differences():
  a = np.zeros((1, 4, 4, 3))
  b = np.full_like(a, 0.2)  # 0.1 in units of [0, 1]
  assert pixel_metrics.psnr(a, b) == pytest.approx(20)
  assert pixel_metrics.l1(a, b) == pytest.approx(0.1)


def test_masks_choose_pixels(pair):
  a, b = pair
  mask = np.zeros(a.shape[:3], bool)
  mask[0, 3:9, 4:8] = True
  for metric in (pixel_metrics.psnr, pixel_metrics.l1):
    cut = metric(a[:1, 3:9, 4:8], b[:1, 3:9, 4:8])
    assert metric(a, b, mask) == pytest.approx(cut)
    assert np.isnan(metric(a, b, np.zeros_like(mask)))


def test_mean_psnr_is_that_of_each_view():
  """Errors of 0.1 and 0.01 are 20 and 40 dB; together they are 23 dB."""
  a = np.zeros((3, 4, 4, 3))
  b = a + np.array([0.2, 0.02, 0.7])[:, None, None, None]
  mask = np.ones(a.shape[:3], bool)
  mask[2] = False
  assert pixel_metrics.mean_psnr(a, b, mask) == pytest.approx(30)
  assert pixel_metrics.mean_psnr(a[:2], b[:2]) == pytest.approx(30)
  assert pixel_metrics.psnr(a[:2], b[:2]) == pytest.approx(22.97, abs=0.01)
  assert np.isnan(pixel_metrics.mean_psnr(a, b, np.zeros_like(mask)))


def test_ssim_against_its_definition(pair):
  """Wang et al. 2004, equation 13, with an 11-pixel Gaussian window."""
  a, b = ((x + 1) / 2 for x in pair)

  def local(x):
    return ndimage.gaussian_filter(x, (0, 1.5, 1.5, 0), truncate=3.5)

  c1, c2 = 0.01**2, 0.03**2
  mean_a, mean_b = local(a), local(b)
  var_a, var_b = local(a * a) - mean_a**2, local(b * b) - mean_b**2
  shared = local(a * b) - mean_a * mean_b
  values = ((2 * mean_a * mean_b + c1) * (2 * shared + c2)) / (
    (mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2)
  )
  expected = values[:, 5:-5, 5:-5].mean()
  assert pixel_metrics.ssim(*pair) == pytest.approx(expected, abs=2e-4)
  assert pixel_metrics.ssim(pair[0], pair[0]) == pytest.approx(1)
