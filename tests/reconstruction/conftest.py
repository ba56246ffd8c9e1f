import planted
import pytest

from mvjax.reconstruction import field


@pytest.fixture(scope="session")
def boxes():
  """Two boxes, eight views of them, and the field fitted to these."""
  asset = planted.two_boxes()
  given = planted.views(asset, planted.orbits(8))
  fitted = field.fit(given.image, given.alpha, given.camera, planted.SMALL)
  return asset, given, fitted
