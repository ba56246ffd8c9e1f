"""The 2D text-to-image model: UNet and text encoder, trained together."""

import ml_collections

from mvjax import tokenizer
from mvjax.training import components, state
from mvjax.training.tasks import denoising, ruler, task

_TRAINED = ("unet", "text_encoder")
_SEEDS = 4


def make(
  config: ml_collections.ConfigDict, tokens: tokenizer.Tokenizer
) -> task.Task:
  """The task of a config.

  Raises:
    ValueError: `train.init_from` does not fit the config.
    FileNotFoundError: It has no autoencoder.
  """
  model, params = components.image_model(config, tokens)
  sampler = denoising.Sampler(model, config, views=1, columns=_SEEDS)
  frozen = {
    "vae": params["vae"],
    "empty": tokens([""])[0],
  }

  def draw(key, batch):
    return denoising.draw(
      model,
      state.streams(key, "posterior", "caption", "time", "noise"),
      batch=batch,
      caption_dropout=config.train.caption_dropout,
    )

  def clean(params, batch, drawn, frozen):
    """Latents and texts of a batch."""
    params = {**frozen, **params}
    ids = denoising.drop_captions(
      batch["ids"],
      frozen["empty"],
      dropped=drawn["captionless"],
    )
    latents = denoising.latents_of(
      model, params, batch=batch, noise=drawn["posterior"]
    )
    return latents, model.encode_text(params, ids)

  def errors(params, drawn, latents, text):
    return denoising.denoising_errors(
      model,
      params,
      latents=latents,
      text=text,
      cameras=None,
      drawn=drawn,
      min_snr=config.train.min_snr,
    )

  def loss(params, batch, drawn, frozen):
    inputs = clean(params, batch, drawn, frozen)
    return errors(params, drawn, *inputs).mean(), {}

  def measure(params, batch, drawn, frozen):
    inputs = clean(params, batch, drawn, frozen)
    return ruler.at_times(
      lambda time: errors(params, drawn | {"time": time}, *inputs),
      shape=drawn["time"].shape,
      length=model.schedule.num_train_timesteps,
    )

  def write(params, frozen, folder, *, dtype, batches):
    del batches
    components.write_model(
      folder, model, params={**frozen, **params}, dtype=dtype
    )

  return task.Task(
    params={name: params[name] for name in _TRAINED},
    frozen=frozen,
    losses={"main": state.Loss(draw=draw, value=loss, ruler=measure)},
    prepare=lambda batch: denoising.prepare(batch, tokens),
    draw=lambda params, frozen, batch: sampler({**frozen, **params}),
    write=write,
  )
