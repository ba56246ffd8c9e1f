"""What a record of a data set holds, decoded: only what is asked for."""

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image

from data_pipeline import image_ops, pictures
from data_pipeline.latents import latents_dataset_builder as builder
from data_pipeline.renders import rendered_object


def pixels(
  record: Mapping[str, Any], chosen: Sequence[int] | np.ndarray
) -> image_ops.Pixels:
  """These views of a record of renders, on white; see `image_ops.Pixels`."""
  rgba = np.stack([_decode(record["images"][view], "RGBA") for view in chosen])
  encoded = [record["depths"][view] for view in chosen]
  depth = (
    np.stack([_decode(file, "I;16") for file in encoded])
    if all(encoded)
    else np.zeros(rgba.shape[:-1])
  )
  alpha = rgba[..., 3:].astype(np.float32) / 255
  colour = rgba[..., :3].astype(np.float32) / 127.5 - 1
  return image_ops.Pixels(
    image=colour * alpha + (1 - alpha),
    alpha=alpha[..., 0],
    depth=depth.astype(np.float32) / rendered_object.DEPTH_SCALE,
    intrinsics=record["intrinsics"][np.asarray(chosen)],
  )


def latents(
  record: Mapping[str, Any],
  chosen: Sequence[int] | np.ndarray,
  *,
  caption: int,
) -> dict[str, np.ndarray]:
  """These views and one caption of a record of latents.

  Returns:
    posterior [v i j 2c] float32, mean and log variance; text [n d] float32.
  """
  posteriors = [
    builder.decode_array(record, builder.POSTERIORS, view) for view in chosen
  ]
  return {
    "posterior": np.stack(posteriors),
    "text": builder.decode_array(record, builder.TEXTS, caption),
  }


def _decode(encoded: bytes, mode: str) -> np.ndarray:
  """Decodes an image; WebP leaves out an alpha that is 1 everywhere."""
  try:
    with Image.open(io.BytesIO(encoded)) as image:
      return np.asarray(image.convert(mode))
  except pictures.DAMAGE as error:
    raise ValueError(
      f"data set: damaged picture in a record ({error}); build it again"
    ) from error
