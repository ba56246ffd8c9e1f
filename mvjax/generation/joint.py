"""Texts and seeds to views, by the models that a request asks for."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Float, UInt8

from mvjax import compilation, geometry, sampling, scores
from mvjax.generation import request as requests
from mvjax.models import bridge, diffusers_flax, loading
from mvjax.parallel import mesh as meshes
from mvjax.parallel import placement
from mvjax.views import viewpoints


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Program:
  """What is made once for all batches of a request.

  Attributes:
    request: what was asked for.
    camera: [v].
    models: by name; the first gives the time grid and decodes.
    score: the combined score; one object, so that it compiles once.
    shape: [v h w c] of a sample's latents.
    bridge_factor: the 2D model's latents are finer by it (`models.bridge`).
    steps: noise levels and weights.
    encode_fns: by model name, jitted (params, ids) to text tokens.
    camera_fn: (camera [b v], height, width) on the host to what the multi-view
      model's scores need. The 2D model is told nothing about cameras, which
      makes a 2D model of a multi-view one.
    start_fn: jitted (params, shape) to the latents that sampling starts from
      under the noise, or None.
    decode_fn: jitted (params, latents [b v h w c]) to images.
    mesh: devices that share a batch of samples.
  """

  request: requests.Request
  camera: geometry.Camera
  models: Mapping[str, loading.Model]
  score: scores.Score
  shape: tuple[int, int, int, int]
  bridge_factor: int
  steps: sampling.Steps
  encode_fns: Mapping[str, Callable[..., Array]]
  camera_fn: Callable[..., Any]
  start_fn: Callable[..., Array | None]
  decode_fn: Callable[..., Array]
  mesh: Mesh


def build(
  request: requests.Request,
  camera: geometry.Camera,
  *,
  mesh: Mesh | None = None,
) -> Program:
  """Loads the models and prepares what all batches share; compiles nothing.

  Args:
    request: what to make.
    camera: [v].
    mesh: devices that share a batch; None: one of them.

  Raises:
    ValueError: models that cannot be mixed, or a run their schedule cannot
      make.
    FileNotFoundError: a model folder is not complete.
  """
  mesh = meshes.single() if mesh is None else mesh
  models = {
    name: _load(request, name, source)
    for name, source in request.sources.items()
  }
  models = {
    name: dataclasses.replace(
      model, params=placement.everywhere(model.params, mesh)
    )
    for name, model in models.items()
  }
  first, *others = models.values()
  for other in others:
    loading.check_mixable(first, other)
  views = len(camera.intrinsics)
  shape = _latent_shape(request, first, views=views)
  factor = _bridge_factor(request, models, side=shape[1])
  schedule = first.schedule
  if request.timestep_spacing is not None:
    schedule = dataclasses.replace(
      schedule, timestep_spacing=request.timestep_spacing
    )
  return Program(
    request=request,
    camera=camera,
    models=models,
    score=guided_mix(
      score_functions(models, mode=request.score, bridge_factor=factor)
    ),
    shape=shape,
    bridge_factor=factor,
    steps=sampling.make_steps(
      schedule,
      request.steps,
      mode=request.score,
      lambda_schedule=request.lambda_schedule,
    ),
    encode_fns={
      name: jax.jit(model.encode_text) for name, model in models.items()
    },
    camera_fn=first.camera_conditioning,
    start_fn=jax.jit(first.start_latents, static_argnums=1),
    decode_fn=jax.jit(first.decode),
    mesh=mesh,
  )


def score_functions(
  models: Mapping[str, loading.Model], *, mode: str, bridge_factor: int
) -> dict[str, scores.Score]:
  """The scores that a mode mixes, without guidance.

  Args:
    models: by name, 'multiview' or 'image' or both.
    mode: key of `scores.MODES`.
    bridge_factor: see `Program`.
  """
  score_of = {name: model.score for name, model in models.items()}
  if "image" in score_of:
    score_of["image"] = bridge.bridged(score_of["image"], bridge_factor)
  if "single_view" in scores.MODES[mode]:
    score_of["single_view"] = models["multiview"].single_view_score
  return score_of


def guided_mix(score_of: Mapping[str, scores.Score]) -> scores.Score:
  """All scores, each with its guidance, mixed."""
  return scores.mix(
    {
      name: scores.classifier_free_guidance(score)
      for name, score in score_of.items()
    }
  )


def _load(request: requests.Request, name: str, source: str) -> loading.Model:
  model = loading.load(
    source,
    request.dtype,
    lora_file=request.lora(name),
    lora_scale=request.lora_scale,
  )
  if name == "image" and request.image_provider == "diffusers":
    return diffusers_flax.adopt(model)
  return model


def _latent_shape(
  request: requests.Request, model: loading.Model, *, views: int
) -> tuple[int, int, int, int]:
  """[v h w c] of a sample's latents.

  Raises:
    ValueError: the networks cannot halve such maps as often as they have to.
  """
  side = model.latent_size
  if request.image_size is not None:
    factor = 2 ** (len(model.vae.block_out_channels) - 1)
    step = factor * 2 ** (len(model.unet.block_out_channels) - 1)
    if request.image_size % step:
      raise ValueError(
        f"image_size={request.image_size}: must be a multiple of {step} for "
        f"{model.name}"
      )
    side = request.image_size // factor
  return views, side, side, model.unet.in_channels


def _bridge_factor(
  request: requests.Request, models: Mapping[str, loading.Model], *, side: int
) -> int:
  """How much finer the grid is on which the 2D model is asked."""
  if request.image_resolution == "native" or len(models) < 2:
    return 1
  return bridge.factor_between(
    models["image"].latent_size,
    side,
    names=(models["image"].name, models["multiview"].name),
  )


def draw(
  program: Program, prompts: Sequence[str], *, seeds: Sequence[int]
) -> tuple[UInt8[np.ndarray, "b v h w 3"], dict[str, float]]:
  """Samples one batch.

  Args:
    program: from `build`.
    prompts: one text per sample; every batch of a program should have the
      same size, another one compiles anew.
    seeds: one per sample.

  Returns:
    The views, and the seconds that each part took. Making programs is a part
    of its own, 'compile', and in none of the others.
  """
  with compilation.timed() as condition:
    keys = jax.vmap(jax.random.key)(np.asarray(seeds, np.uint32))
    params, conditioning = _condition(program, prompts, keys=keys)
    conditioning, keys = placement.by_rows((conditioning, keys), program.mesh)
    jax.block_until_ready(conditioning)
  first = next(iter(program.models.values()))
  with compilation.timed() as denoise:
    start = program.start_fn(first.params, program.shape)
    with meshes.use(program.mesh):
      latents = sampling.sample(
        program.score,
        params,
        conditioning=conditioning,
        steps=program.steps,
        keys=keys,
        shape=program.shape,
        eta=program.request.eta,
        start=start,
      )
    latents.block_until_ready()
  # One asset at a time on a device: the decoder's maps are the largest of all.
  turns = len(latents) // program.mesh.shape["data"]
  with compilation.timed() as decode, meshes.use(program.mesh):
    images = [
      _to_uint8(program.decode_fn(first.params, latents[turn::turns]))
      for turn in range(turns)
    ]
  parts = {"condition": condition, "denoise": denoise, "decode": decode}
  seconds = {name: part.running for name, part in parts.items()}
  seconds["compile"] = sum(part.compiling for part in parts.values())
  images = np.stack(images, axis=1)
  images = images.reshape(-1, *images.shape[2:])
  return images, {k: round(v, 3) for k, v in seconds.items()}


def _condition(
  program: Program, prompts: Sequence[str], *, keys: Array
) -> tuple[dict[str, Any], dict[str, scores.Conditioning]]:
  """Parameters and conditioning of every score, by its name."""
  models = program.models
  conditioning = {
    name: _conditioning(program, name, prompts=prompts) for name in models
  }
  if program.bridge_factor > 1:
    conditioning["image"] = dataclasses.replace(
      conditioning["image"],
      fine_noise=bridge.draw_noise(keys, program.shape, program.bridge_factor),
    )
  params = {name: model.params for name, model in models.items()}
  if "single_view" in scores.MODES[program.request.score]:
    conditioning["single_view"] = conditioning["multiview"]
    params["single_view"] = params["multiview"]
  return params, conditioning


def _conditioning(
  program: Program, name: str, *, prompts: Sequence[str]
) -> scores.Conditioning:
  """What one model is told about a batch."""
  request, model = program.request, program.models[name]

  def encode(texts: Sequence[str]) -> Array:
    ids = model.tokenizer(texts)
    return program.encode_fns[name](model.params, ids)

  texts = [request.text(name, prompt) for prompt in prompts]
  views = len(program.camera.intrinsics)
  if name == "image" and request.view_words:
    words = viewpoints.view_words(program.camera)
    tokens = encode([f"{t}, {word}" for t in texts for word in words])
    tokens = tokens.reshape(len(texts), views, *tokens.shape[1:])
  else:
    tokens = encode(texts)
  scale = {
    "multiview": request.multiview_guidance,
    "image": request.image_guidance,
  }[name]
  negative = None
  if scale != 1:
    negative = encode([request.negative_prompt])
    negative = negative.reshape(
      *(1,) * (tokens.ndim - negative.ndim), *negative.shape
    )
    negative = jnp.broadcast_to(negative, tokens.shape)
  cameras = None
  if name == "multiview":
    camera = jax.tree.map(
      lambda x: jnp.broadcast_to(x[None], (len(texts), *x.shape)),
      program.camera,
    )
    _, height, width, _ = program.shape
    cameras = program.camera_fn(camera, height, width)
  return scores.Conditioning(
    text=tokens,
    negative_text=negative,
    cameras=cameras,
    guidance_scale=jnp.float32(scale),
    guidance_rescale=jnp.float32(request.guidance_rescale),
  )


def _to_uint8(
  images: Float[Array, "b v h w 3"],
) -> UInt8[np.ndarray, "b v h w 3"]:
  levels = np.clip(np.asarray(images, np.float32) * 127.5 + 127.5, 0, 255)
  return np.round(levels).astype(np.uint8)
