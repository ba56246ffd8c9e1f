"""LPIPS with the published network and heads, fetched as users fetch them."""

import numpy as np

from mvjax.evaluation import lpips
from tests import lpips_golden


def test_published_weights_give_the_package_s_numbers():
  found = lpips.distance(lpips.load_weights(), *lpips_golden.pictures())
  expected = lpips_golden.GOLDEN["published"]
  np.testing.assert_allclose(found, expected, rtol=1e-4)
