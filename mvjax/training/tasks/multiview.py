"""The multi-view model: a 2D UNet that learns to see all views of an asset.

The text encoder stays as the 2D model trained it. In a share of the assets
every view is cut off from the others, and a share of the steps may be plain
2D batches: both keep the single-view score a trained one. In other shares the
views differ in their noise levels (`noise_levels`), so that it pays to look.
"""

import functools

import jax
import jax.numpy as jnp
import ml_collections

from mvjax import tokenizer
from mvjax.models import epipolar_mv
from mvjax.nn import camera_features
from mvjax.training import components, state
from mvjax.training.tasks import denoising, noise_levels, ruler, task


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

  def draw(key, batch):
    keys = state.streams(
      key, "posterior", "caption", "time", "noise", "offsets", "cut", "levels"
    )
    drawn = denoising.draw(
      model,
      keys,
      batch=batch,
      caption_dropout=config.train.caption_dropout,
    )
    b, v, height, width, _ = drawn["noise"].shape
    points = epipolar_mv.levels(model.epipolar, (height, width))
    offsets = {
      (h, w): jax.random.uniform(one, (b, v, h, w, m))
      for one, ((h, w), m) in zip(
        jax.random.split(keys["offsets"], len(points)),
        points.items(),
        strict=True,
      )
    }
    return drawn | {
      "offsets": offsets,
      "cut": jax.random.bernoulli(keys["cut"], config.train.view_dropout, (b,)),
      "time": noise_levels.of_views(
        keys["levels"],
        drawn["time"][:, 0],
        views=v,
        length=model.schedule.num_train_timesteps,
        own_times=config.train.own_times,
        clean_views=config.train.clean_views,
      ),
    }

  def clean(params, batch, drawn, frozen):
    """Latents and texts of a batch."""
    params = {**frozen, **params}
    empty = model.encode_text(params, frozen["empty"][None])[0]
    text = denoising.drop_captions(
      batch["text"]
      if "text" in batch
      else model.encode_text(params, batch["ids"]),
      empty,
      dropped=drawn["captionless"],
    )
    latents = denoising.latents_of(
      model, params, batch=batch, noise=drawn["posterior"]
    )
    return latents, text

  def errors(params, batch, drawn, latents, text, *, sees_cameras=True):
    cameras = None
    if sees_cameras:
      # Depth samples are random within their pieces.
      cameras = epipolar_mv.features(
        batch["camera"],
        latents.shape[2:4],
        config=model.epipolar,
        offsets=drawn["offsets"],
      )
      cameras = camera_features.cut_views(cameras, drawn["cut"])
    return denoising.denoising_errors(
      model,
      params,
      latents=latents,
      text=text,
      cameras=cameras,
      drawn=drawn,
      min_snr=config.train.min_snr,
    )

  def loss(params, batch, drawn, frozen, *, sees_cameras):
    found = errors(
      params,
      batch,
      drawn,
      *clean(params, batch, drawn, frozen),
      sees_cameras=sees_cameras,
    )
    return found.mean(), {}

  def measure(params, batch, drawn, frozen):
    drawn |= {"captionless": jnp.zeros_like(drawn["captionless"])}
    inputs = clean(params, batch, drawn, frozen)

    def of_views(time, cut):
      return errors(params, batch, drawn | {"time": time, "cut": cut}, *inputs)

    return ruler.of_views(
      of_views,
      shape=drawn["time"].shape,
      length=model.schedule.num_train_timesteps,
    )

  def write(params, frozen, folder, *, dtype, batches):
    del batches
    components.write_model(
      folder, model, params={**frozen, **params}, dtype=dtype
    )

  return task.Task(
    params={"unet": params["unet"]},
    frozen=frozen,
    losses={
      kind: state.Loss(
        draw=draw,
        value=functools.partial(loss, sees_cameras=kind == "main"),
        ruler=measure,
      )
      for kind in ("main", "image")
    },
    prepare=lambda batch: denoising.prepare(batch, tokens),
    draw=lambda params, frozen, batch: sampler({**frozen, **params}),
    write=write,
  )
