"""FID of random pictures by PyTorch and by us, with one set of weights.

Random weights of the right scale: the published ones cannot be had here. Where
the package torch-fidelity is there, its network is a second reference.
"""

import math

import numpy as np
import pytest
import torch
import torch_fid
from torch.nn import functional

from mvjax.evaluation import frechet, inception, resize


@pytest.fixture(scope="module")
def state():
  rng = np.random.default_rng(0)
  tensors = {}
  for name, shape in inception.torch_shapes().items():
    noise = rng.standard_normal(shape, np.float32)
    if name.endswith(("running_var", "bn.weight")):
      noise = 1 + 0.2 * np.abs(noise)
    elif name.endswith(("running_mean", "bias")):
      noise = 0.1 * noise
    else:
      noise = noise * np.float32(math.sqrt(2 / math.prod(shape[1:])))
    tensors[name] = torch.from_numpy(noise.astype(np.float32))
  return tensors


@pytest.fixture(scope="module")
def params(state, tmp_path_factory):
  path = tmp_path_factory.mktemp("weights") / "pt_inception.pth"
  torch.save(state, path)
  return inception.load_weights(path)


@pytest.fixture(scope="module")
def pictures():
  """Two sets of bytes [n h w 3], one smoother than the other."""
  rng = np.random.default_rng(1)
  coarse = rng.uniform(0, 255, (3, 16, 16, 3))
  fine = rng.uniform(0, 255, (3, 64, 64, 3))
  coarse = coarse.repeat(4, axis=1).repeat(4, axis=2)
  return coarse.astype(np.uint8), fine.astype(np.uint8)


def theirs(state, pictures):
  """pytorch-fid's steps: [0, 1], bilinear to 299, [-1, 1]."""
  x = torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 255
  x = functional.interpolate(
    x, size=(299, 299), mode="bilinear", align_corners=False
  )
  with torch.no_grad():
    return torch_fid.FidInception(state)(2 * x - 1).numpy()


def ours(params, pictures):
  inputs = [
    resize.INCEPTION_INPUT["torch"](p / np.float32(127.5) - 1, 299)
    for p in pictures
  ]
  return np.asarray(inception.pooled_features(params, np.stack(inputs)))


def test_features_and_fid(state, params, pictures):
  a, b = (theirs(state, p) for p in pictures)
  x, y = (ours(params, p) for p in pictures)
  scale = np.abs(a).max()
  assert a.std() > 1e-3 * scale
  np.testing.assert_allclose(x, a, atol=2e-4 * scale)
  np.testing.assert_allclose(y, b, atol=2e-4 * scale)
  expected = by_eigenvalues(a.astype(np.float64), b.astype(np.float64))
  got = frechet.frechet_distance(frechet.moments(x), frechet.moments(y))
  assert got == pytest.approx(expected, rel=1e-3)


def test_network_of_torch_fidelity(state, params, tmp_path):
  extractor = pytest.importorskip(
    "torch_fidelity.feature_extractor_inceptionv3"
  )
  path = tmp_path / "weights.pth"
  torch.save(state, path)
  network = extractor.FeatureExtractorInceptionV3(
    "inception", ["2048", "logits_unbiased"], str(path)
  )
  # At 299 pixels nothing is resized.
  levels = np.random.default_rng(2).integers(0, 256, (2, 299, 299, 3), np.uint8)
  pooled, logits = network(torch.from_numpy(levels).permute(0, 3, 1, 2))
  inputs = (levels.astype(np.float32) - 128) / 128
  got = np.asarray(inception.pooled_features(params, inputs))
  scale = float(pooled.abs().max())
  np.testing.assert_allclose(got, pooled.numpy(), atol=2e-4 * scale)
  scale = float(logits.abs().max())
  np.testing.assert_allclose(
    inception.logits(params, got), logits.numpy(), atol=1e-3 * scale
  )


def by_eigenvalues(a, b):
  """Tr (S1 S2)^1/2 by the eigenvalues of S1 S2 that are not zero.

  They are those of the small matrix (A B') (B A').
  """
  a_rows, b_rows = (x - x.mean(0) for x in (a, b))
  a_rows, b_rows = (x / np.sqrt(len(x) - 1) for x in (a_rows, b_rows))
  small = a_rows @ b_rows.T @ b_rows @ a_rows.T
  roots = np.sqrt(np.maximum(np.linalg.eigvals(small).real, 0))
  shift = ((a.mean(0) - b.mean(0)) ** 2).sum()
  return shift + (a_rows**2).sum() + (b_rows**2).sum() - 2 * roots.sum()
