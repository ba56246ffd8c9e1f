"""Reading and batching; the network itself is tested beside."""

import numpy as np

from mvjax.evaluation import efficientnet, features


def test_batching_changes_nothing_and_scales_to_the_network(monkeypatch):
  seen = []

  def spy(params, images):
    seen.append(images)
    return np.broadcast_to(images.mean((1, 2, 3))[:, None], (len(images), 1280))

  monkeypatch.setattr(efficientnet, "pooled_features", spy)
  values = np.linspace(-1, 1, 5)
  images = np.broadcast_to(values[:, None, None, None], (5, 4, 4, 3))
  out = features.extract({}, images, batch_size=2)
  assert [len(batch) for batch in seen] == [2, 2, 2]
  assert out.shape == (5, 1280)
  # -1 and 1 are the bytes 0 and 255.
  np.testing.assert_allclose(out[0], -127 / 128, atol=1e-6)
  np.testing.assert_allclose(out[-1], 1, atol=1e-6)
  assert features.extract({}, images[:0]).shape == (0, 1280)
