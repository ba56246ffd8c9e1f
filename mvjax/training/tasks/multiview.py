"""The multi-view model: a 2D UNet that learns to see all views of an asset.

The text encoder stays as the 2D model trained it. In a share of the assets
every view is cut off from the others, and a share of the steps may be plain
2D batches: both keep the single-view score a trained one.
"""

from typing import Any

import jax
import ml_collections

from mvjax import tokenizer
from mvjax.models import epipolar_mv
from mvjax.nn import camera_features
from mvjax.training import components, state
from mvjax.training.tasks import denoising, task


def make(
  config: ml_collections.ConfigDict, tokens: tokenizer.Tokenizer
) -> task.Task:
  """The task of a config.

  Raises:
    ValueError: `train.init_from` does not fit the config.
    FileNotFoundError: It is no 2D model.
  """
  model, params = components.multiview_model(config, tokens)
  views = config.data.num_views
  sampler = denoising.Sampler(model, config, views=views, columns=views)
  frozen = {
    "vae": params["vae"],
    "text_encoder": params["text_encoder"],
    "empty": tokens([""])[0],
  }

  def loss(params, batch, key, frozen, *, sees_cameras):
    keys = state.streams(
      key, "posterior", "caption", "time", "noise", "offsets", "cut"
    )
    params = {**frozen, **params}
    empty = model.encode_text(params, frozen["empty"][None])[0]
    text = denoising.drop_captions(
      batch["text"]
      if "text" in batch
      else model.encode_text(params, batch["ids"]),
      empty,
      share=config.train.caption_dropout,
      key=keys["caption"],
    )
    latents = denoising.draw_latents(
      model, params, batch=batch, key=keys["posterior"]
    )
    cameras = None
    if sees_cameras:
      cameras = _jittered_cameras(
        batch["camera"],
        latents.shape[2:4],
        config=model.epipolar,
        key=keys["offsets"],
      )
      cut = jax.random.bernoulli(
        keys["cut"], config.train.view_dropout, (len(latents),)
      )
      cameras = camera_features.cut_views(cameras, cut)
    value = denoising.denoising_loss(
      model,
      params,
      latents=latents,
      text=text,
      cameras=cameras,
      keys=keys,
    )
    return value, {}

  def multiview_loss(params, batch, key, frozen):
    return loss(params, batch, key, frozen, sees_cameras=True)

  def image_loss(params, batch, key, frozen):
    return loss(params, batch, key, frozen, sees_cameras=False)

  def write(params, frozen, folder, *, dtype, batches):
    del batches
    components.write_model(
      folder, model, params={**frozen, **params}, dtype=dtype
    )

  return task.Task(
    params={"unet": params["unet"]},
    frozen=frozen,
    losses={"main": multiview_loss, "image": image_loss},
    prepare=lambda batch: denoising.prepare(batch, tokens),
    draw=lambda params, frozen, batch: sampler({**frozen, **params}),
    write=write,
  )


def _jittered_cameras(
  camera: Any, size: tuple[int, int], *, config: Any, key: Any
) -> camera_features.CameraFeatures:
  """Camera features whose depth samples are random within their pieces."""
  b, v = camera.camera_to_world.shape[:2]
  points = epipolar_mv.levels(config, size)
  keys = jax.random.split(key, len(points))
  offsets = {
    (h, w): jax.random.uniform(one, (b, v, h, w, m))
    for one, ((h, w), m) in zip(keys, points.items(), strict=True)
  }
  return epipolar_mv.features(camera, size, config=config, offsets=offsets)
