"""What Lite0 is given; the network itself is tested beside."""

import numpy as np

from mvjax.evaluation import efficientnet, features, networks


def test_pictures_are_scaled_to_the_network(monkeypatch):
  monkeypatch.setattr(features, "load_weights", lambda cache: {})
  monkeypatch.setattr(
    efficientnet, "pooled_features", lambda params, batch: batch.mean((1, 2))
  )
  network = networks.lite0(size=12)
  for value, level in ((-1, 0), (0, 127.5), (1, 255)):
    given = network.prepare(np.full((8, 8, 3), value, np.float32))
    assert given.shape == (12, 12, 3)
    np.testing.assert_allclose(
      network.apply(given[None]), (level - 127) / 128, atol=1e-6
    )
  # Features of another size are others in the store.
  assert network.settings != networks.lite0().settings
