"""Records of a data set whose renders are of one colour."""

import io

import numpy as np
from PIL import Image

from data_pipeline import loader
from mvjax.evaluation import networks


def record(name, number, *, color, material="", views=6):
  """An object in a look, as `loader.records` gives it."""
  captions = [f"a plain {name}", f"a small {name}"]
  return {
    "uid": f"{name} {number}".encode(),
    "name": name.title().encode(),
    "look": b"retextured" if material else b"full",
    "material": material.encode(),
    "captions": [text.encode() for text in captions],
    "images": [_png(color)] * views,
    "depths": [b""] * views,
    "intrinsics": np.tile(np.eye(3, dtype=np.float32), (views, 1, 1)),
    "camera_to_world": np.tile(np.eye(4, dtype=np.float32), (views, 1, 1)),
    "group": np.zeros(views, np.int32),
  }


def use(patch, records):
  """Makes every data set consist of these records."""
  patch.setattr(loader, "records", lambda settings: records)
  patch.setattr(loader, "fingerprint", lambda settings: {"source_digest": "1"})


def network(apply):
  """A stand-in for `networks.lite0`."""

  def build(cache=None, *, size=0):
    return networks.Network(
      name="stand-in",
      frechet="FD-mean",
      kernel="KD-mean",
      settings=1,
      prepare=lambda image: image,
      apply=apply,
    )

  return build


def _png(color):
  buffer = io.BytesIO()
  Image.new("RGBA", (9, 9), (*color, 255)).save(buffer, "PNG")
  return buffer.getvalue()
