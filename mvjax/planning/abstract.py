"""The programs of a config as shapes: nothing is read, computed or stored."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
from jax.sharding import Mesh, NamedSharding

from mvjax import geometry, sampling, scores, tokenizer
from mvjax.generation import joint, request
from mvjax.models import stable_diffusion
from mvjax.parallel import logical
from mvjax.parallel import mesh as meshes
from mvjax.training import components, data
from mvjax.training.tasks import registry, task

# The 2D model's latents over the multi-view model's, where they are bridged:
# Stable Diffusion's 64 over 32.
_BRIDGE_FACTOR = 2


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sampler:
  """The sampling programs of a config.

  Attributes:
    steps: denoising steps.
    score_fns: by model name, its score without guidance.
    branches: by model name, 2 with guidance and 1 without.
    score: all of them, guided and mixed.
    params: shapes, by model name.
    conditioning: shapes, by model name.
    x: shape of the noisy latents.
    schedule: noise levels and weights of the run.
    decode_fn: (params of a model, latents) to images.
  """

  steps: int
  score_fns: Mapping[str, scores.Score]
  branches: Mapping[str, int]
  score: scores.Score
  params: Mapping[str, Any]
  conditioning: Mapping[str, scores.Conditioning]
  x: jax.ShapeDtypeStruct
  schedule: sampling.Steps
  decode_fn: Callable[..., Any]


def train_task(config: ml_collections.ConfigDict, *, mesh: Mesh) -> task.Task:
  """The task of a config; its parameters and frozen arrays are shapes."""
  config = _without_weights(config)
  made: list[task.Task] = []

  def build() -> tuple[Any, Any]:
    made.append(registry.with_tokenizer(config, _tokens(config)))
    return made[0].params, made[0].frozen

  with meshes.use(mesh):
    params, frozen = jax.eval_shape(build)
  return dataclasses.replace(made[0], params=params, frozen=frozen)


def batch(
  config: ml_collections.ConfigDict,
  chosen: task.Task,
  *,
  latents: bool = False,
  parts: int = 1,
) -> Any:
  """Shapes of a global batch.

  Args:
    config: of the run.
    chosen: its task.
    latents: whether the data was encoded beforehand.
    parts: the shapes are those of one of so many parts.
  """
  section = config.data.copy_and_resolve_references()
  with section.unlocked():
    section.source = "synthetic"
  stream = data.open_stream(section, batch_size=1, seed=0)
  example = next(stream.start(0))
  if latents:
    example |= _encoded(config, example.pop("image").shape)
  example = chosen.prepare(example)
  return jax.tree.map(
    lambda x: jax.ShapeDtypeStruct(
      (config.train.batch_size // parts * x.shape[0], *x.shape[1:]), x.dtype
    ),
    example,
  )


def _encoded(
  config: ml_collections.ConfigDict, shape: tuple[int, ...]
) -> dict[str, np.ndarray]:
  """What images `[b v h w 3]` and their captions become when encoded."""
  b, v, height, width, _ = shape
  factor = 2 ** (len(config.vae.block_out_channels) - 1)
  text = config.text_encoder
  return {
    "posterior": np.zeros(
      (b, v, height // factor, width // factor, 2 * config.vae.latent_channels)
    ),
    "text": np.zeros((b, text.max_position_embeddings, text.hidden_size)),
  }


def sampler(
  config: ml_collections.ConfigDict, *, mesh: Mesh, batch_size: int
) -> Sampler:
  """Joint sampling of a multi-view config, plain sampling of an image one.

  Args:
    config: with task 'multiview' or 'image'.
    mesh: of the devices that are compiled for.
    batch_size: assets denoised together, over all devices.
  """
  settings = config.sample
  multiview = config.task == "multiview"
  mode = settings.get("score", request.Request.score) if multiview else "2d"
  dtype = settings.get("dtype", request.Request.dtype)
  models, params = {}, {}
  for name in scores.MODES[mode]:
    if name != "single_view":
      models[name], params[name] = _model(config, name, dtype=dtype, mesh=mesh)
  first = next(iter(models.values()))
  shape = first.latent_shape(config.data.num_views if multiview else 1)
  bridged = multiview and config.image_model.resolution == "bridge"
  factor = _BRIDGE_FACTOR if bridged else 1
  score_fns = joint.score_functions(models, mode=mode, bridge_factor=factor)
  scales = {name: settings[f"{name}_guidance"] for name in models}
  conditioning = {
    name: _conditioning(
      model,
      name,
      shape=(batch_size, *shape),
      guided=scales[name] != 1,
      factor=factor,
    )
    for name, model in models.items()
  }
  if "single_view" in score_fns:
    for values in (params, scales, conditioning):
      values["single_view"] = values["multiview"]
  return Sampler(
    steps=settings.steps,
    score_fns=score_fns,
    branches={name: 1 + (scale != 1) for name, scale in scales.items()},
    score=joint.guided_mix(score_fns),
    params=params,
    conditioning=conditioning,
    x=jax.ShapeDtypeStruct((batch_size, *shape), jnp.float32),
    schedule=sampling.make_steps(
      first.schedule,
      settings.steps,
      mode=mode,
      lambda_schedule=settings.get(
        "lambda_schedule", request.Request.lambda_schedule
      ),
    ),
    decode_fn=first.decode,
  )


def placed(tree: Any, mesh: Mesh, *names: str) -> Any:
  """Shapes with places: leading axes by name, the rest everywhere."""

  def place(leaf):
    spec = logical.spec(names[: leaf.ndim], leaf.shape, mesh.shape)
    return jax.ShapeDtypeStruct(
      leaf.shape, leaf.dtype, sharding=NamedSharding(mesh, spec)
    )

  return jax.tree.map(place, tree)


def _model(
  config: ml_collections.ConfigDict, name: str, *, dtype: Any, mesh: Mesh
) -> tuple[stable_diffusion.FlaxStableDiffusion, Any]:
  """A model that computes in `dtype`, and shapes of its parameters in it."""
  config = _without_weights(config)
  make = {
    "image": components.image_model,
    "multiview": components.multiview_model,
  }[name]
  made = []

  def build() -> Any:
    model, params = make(config, _tokens(config))
    made.append(model)
    return params

  with meshes.use(mesh):
    params = jax.eval_shape(build)
  networks = {
    field: getattr(made[0], field).clone(dtype=dtype)
    for field in ("unet", "vae", "text_encoder")
  }
  params = jax.tree.map(
    lambda leaf: jax.ShapeDtypeStruct(leaf.shape, dtype), params
  )
  return dataclasses.replace(made[0], **networks), params


def _conditioning(
  model: stable_diffusion.FlaxStableDiffusion,
  name: str,
  *,
  shape: tuple[int, ...],
  guided: bool,
  factor: int,
) -> scores.Conditioning:
  """Shapes of what one model is told about a batch `[b v h w c]`."""
  b, v, h, w, c = shape
  views = (v,) if name == "image" else ()  # its text names the view
  text = jax.ShapeDtypeStruct(
    (b, *views, model.tokenizer.length, model.text_encoder.hidden_size),
    jnp.float32,
  )
  camera = geometry.Camera(
    camera_to_world=jax.ShapeDtypeStruct((b, v, 4, 4), jnp.float32),
    intrinsics=jax.ShapeDtypeStruct((b, v, 3, 3), jnp.float32),
  )
  features = jax.eval_shape(
    lambda camera: model.camera_conditioning(camera, h, w), camera
  )
  fine = None
  if name == "image" and factor > 1:
    fine = jax.ShapeDtypeStruct((b, v, factor * h, factor * w, c), jnp.float32)
  scalar = jax.ShapeDtypeStruct((), jnp.float32)
  return scores.Conditioning(
    text=text,
    negative_text=text if guided else None,
    cameras=features,
    fine_noise=fine,
    guidance_scale=scalar,
    guidance_rescale=scalar,
  )


def _without_weights(
  config: ml_collections.ConfigDict,
) -> ml_collections.ConfigDict:
  """The config of a run from nothing."""
  config = config.copy_and_resolve_references()
  with config.unlocked():
    config.train.init_from = ""
  return config


def _tokens(config: ml_collections.ConfigDict) -> tokenizer.Tokenizer:
  """A tokenizer of the config's size that knows no word."""
  text = config.text_encoder
  special = [tokenizer.START, tokenizer.END, text.pad_token]
  words = list(dict.fromkeys(special))
  words += [f"<{i}>" for i in range(text.vocab_size - len(words))]
  return tokenizer.Tokenizer(
    {word: i for i, word in enumerate(words)},
    merges=[],
    length=text.max_position_embeddings,
    pad_token=text.pad_token,
  )
