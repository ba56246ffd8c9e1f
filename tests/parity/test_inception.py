"""FID, KID and IS of random pictures by PyTorch and by us, with one network.

Random weights of the right scale: the published ones cannot be had here. The
package torch-fidelity is a second reference, for features and for figures.
"""

import importlib
import math
import sys
import types

import numpy as np
import pytest
import torch
import torch_fid
from torch.nn import functional

from mvjax.evaluation import (
  frechet,
  inception,
  inception_score,
  kernel_distance,
  resize,
)

# Modules of torchvision that torch-fidelity imports for data sets and LPIPS.
_UNUSED = ("torchvision", "torchvision.datasets")


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


@pytest.fixture(scope="module")
def fidelity():
  """torch-fidelity without torchvision, which it needs for none of these."""
  stand_ins = {name: types.ModuleType(name) for name in _UNUSED}
  stand_ins["torchvision.datasets"].CIFAR10 = object
  stand_ins["torchvision.datasets"].STL10 = object
  with pytest.MonkeyPatch.context() as patch:
    for name, module in stand_ins.items():
      patch.setitem(sys.modules, name, module)
    found = types.SimpleNamespace()
    for name in (
      "feature_extractor_inceptionv3",
      "metric_fid",
      "metric_isc",
      "metric_kid",
    ):
      module = importlib.import_module(f"torch_fidelity.{name}")
      setattr(found, name, module)
  return found


@pytest.fixture(scope="module")
def by_both(fidelity, state, params, tmp_path_factory):
  """(pooled, logits) of two sets of pictures by torch-fidelity and by us."""
  path = tmp_path_factory.mktemp("fidelity") / "weights.pth"
  torch.save(state, path)
  network = fidelity.feature_extractor_inceptionv3.FeatureExtractorInceptionV3(
    "inception", ["2048", "logits_unbiased"], str(path)
  ).eval()
  # At 299 pixels nothing is resized. Tiles of 23 and of 13 pixels.
  rng = np.random.default_rng(2)
  found = []
  for side in (23, 13):
    tiles = rng.integers(0, 256, (6, 299 // side, 299 // side, 3), np.uint8)
    levels = tiles.repeat(side, axis=1).repeat(side, axis=2)
    with torch.no_grad():
      their = network(torch.from_numpy(levels).permute(0, 3, 1, 2))
    inputs = (levels.astype(np.float32) - 128) / 128
    pooled = np.asarray(inception.pooled_features(params, inputs))
    found.append((their, (pooled, inception.logits(params, pooled))))
  return found


def test_network_of_torch_fidelity(by_both):
  for their, our in by_both:
    for wanted, got, tolerance in zip(their, our, (2e-4, 1e-3), strict=True):
      scale = float(wanted.abs().max())
      assert float(wanted.std(0).max()) > 1e-2 * scale
      np.testing.assert_allclose(got, wanted.numpy(), atol=tolerance * scale)


# An argument that SciPy drops in 1.18, see requirements-parity.txt.
@pytest.mark.filterwarnings("ignore:The `disp` argument:DeprecationWarning")
# Theirs is the root of a singular matrix: 6 pictures, 256 features.
@pytest.mark.filterwarnings("ignore:Matrix is singular")
def test_fid_of_torch_fidelity(fidelity, by_both):
  """From pictures on: their network and formula against ours.

  Of every eighth feature: their root of all 2048 takes a minute.
  """
  lib = fidelity.metric_fid
  stats = [
    lib.fid_features_to_statistics(their[0][:, ::8]) for their, _ in by_both
  ]
  expected = lib.fid_statistics_to_metric(*stats, False)
  a, b = (frechet.moments(our[0][:, ::8]) for _, our in by_both)
  assert frechet.frechet_distance(a, b) == pytest.approx(
    expected[lib.KEY_METRIC_FID], rel=2e-3
  )


def test_kid_of_torch_fidelity(fidelity, by_both):
  """One subset of all pictures: the unbiased estimate, drawn by no one."""
  (a, x), (b, y) = ((their[0], our[0]) for their, our in by_both)
  lib = fidelity.metric_kid
  expected = lib.kid_features_to_metric(
    a,
    b,
    kid_subsets=1,
    kid_subset_size=len(a),
    kid_degree=3,
    kid_gamma=None,
    kid_coef0=1,
    rng_seed=0,
    verbose=False,
  )[lib.KEY_METRIC_KID_MEAN]
  numbers = np.arange(len(x))
  sums = kernel_distance.kernel_sums(
    x, numbers, reference=y, reference_groups=numbers
  )
  assert sums.distance(np.ones(len(x))) == pytest.approx(expected, rel=2e-3)
  subsets, _ = kernel_distance.kid_subsets(x, y, subsets=3)
  assert subsets == pytest.approx(expected, rel=2e-3)


def test_inception_score_of_torch_fidelity(fidelity, by_both):
  # Random weights give all pictures nearly the same logits: what differs is
  # made larger, by the same numbers for both.
  their, our = (
    np.concatenate([np.asarray(pair[i][1], np.float64) for pair in by_both])
    for i in (0, 1)
  )
  middle, sharper = their.mean(0), 3 / their.std(0).mean()
  their, our = (sharper * (logits - middle) for logits in (their, our))
  lib = fidelity.metric_isc
  expected = lib.isc_features_to_metric(torch.from_numpy(their), splits=1)[
    lib.KEY_METRIC_ISC_MEAN
  ]
  assert expected > 1.5
  logs = inception_score.log_probabilities(our)
  got = inception_score.inception_score(logs)
  assert got == pytest.approx(expected, rel=5e-3)


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
