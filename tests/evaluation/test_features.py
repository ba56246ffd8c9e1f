"""Reading and batching; the network itself is tested beside."""

import jax
import numpy as np
import safetensors.numpy
from PIL import Image

from mvjax.evaluation import efficientnet, features


def test_converted_weights_are_used_as_they_are(tmp_path):
  path = tmp_path / "efficientnet_lite0.safetensors"
  path.write_bytes(b"")
  assert features.fetch_weights(tmp_path) == path


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


def test_transparent_pixels_are_white(tmp_path):
  path = tmp_path / "view.png"
  Image.new("RGBA", (64, 64), (0, 0, 0, 0)).save(path)
  image = features.read_image(path)
  assert image.shape == (features.IMAGE_SIZE, features.IMAGE_SIZE, 3)
  np.testing.assert_array_equal(image, 1)


def test_weights_survive_the_cache_file(tmp_path):
  arrays = {"blocks_0/project/kernel": np.ones((1, 1, 2, 3), np.float32)}
  safetensors.numpy.save_file(arrays, tmp_path / "w.safetensors")
  params = features.load_weights(tmp_path / "w.safetensors")
  assert jax.tree.map(np.shape, params) == {
    "blocks_0/project": {"kernel": (1, 1, 2, 3)}
  }
