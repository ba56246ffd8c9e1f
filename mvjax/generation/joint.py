"""Texts and seeds to views, by the models that a request asks for."""

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, UInt8

from mvjax import geometry, sampling, scores
from mvjax.generation import request as requests
from mvjax.generation import viewpoints
from mvjax.models import loading


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Program:
  """What is made once for all batches of a request.

  Attributes:
    request: what was asked for.
    camera: [v].
    models: by name; the first gives the time grid and decodes.
    score: the combined score; one object, so that it compiles once.
    steps: noise levels and weights.
    encode_fns: by model name, jitted (params, ids) to text tokens.
    camera_fns: by model name, jitted (camera [b v], height, width) to what
      its scores need.
    decode_fn: jitted (params, latents [v h w c]) to images.
  """

  request: requests.Request
  camera: geometry.Camera
  models: Mapping[str, loading.Model]
  score: scores.Score
  steps: sampling.Steps
  encode_fns: Mapping[str, Callable[..., Array]]
  camera_fns: Mapping[str, Callable[..., Any]]
  decode_fn: Callable[..., Array]


def build(request: requests.Request, camera: geometry.Camera) -> Program:
  """Loads the models and prepares what all batches share; compiles nothing.

  Raises:
    ValueError: models that cannot be mixed, or a run their schedule cannot
      make.
    FileNotFoundError: a model folder is not complete.
  """
  models = {
    name: loading.load(folder, request.dtype)
    for name, folder in request.folders.items()
  }
  first, *others = models.values()
  for other in others:
    loading.check_mixable(first, other)
  score_of = {name: model.score for name, model in models.items()}
  if "single_view" in scores.MODES[request.score]:
    score_of["single_view"] = models["multiview"].single_view_score
  return Program(
    request=request,
    camera=camera,
    models=models,
    score=scores.mix(
      {
        name: scores.classifier_free_guidance(score)
        for name, score in score_of.items()
      }
    ),
    steps=sampling.make_steps(
      first.schedule,
      request.steps,
      mode=request.score,
      lambda_schedule=request.lambda_schedule,
    ),
    encode_fns={
      name: jax.jit(model.encode_text) for name, model in models.items()
    },
    camera_fns={
      name: jax.jit(model.camera_conditioning, static_argnums=(1, 2))
      for name, model in models.items()
    },
    decode_fn=jax.jit(first.decode),
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
    The views, and the seconds that each part took (compilation included).
  """
  request, models = program.request, program.models
  start = time.perf_counter()
  conditioning = {
    name: _conditioning(program, name, prompts=prompts) for name in models
  }
  params = {name: model.params for name, model in models.items()}
  if "single_view" in scores.MODES[request.score]:
    conditioning["single_view"] = conditioning["multiview"]
    params["single_view"] = params["multiview"]
  jax.block_until_ready(conditioning)

  prepared = time.perf_counter()
  first = next(iter(models.values()))
  latents = sampling.sample(
    program.score,
    params,
    conditioning=conditioning,
    steps=program.steps,
    keys=jax.vmap(jax.random.key)(np.asarray(seeds, np.uint32)),
    shape=first.latent_shape(len(program.camera.intrinsics)),
    eta=request.eta,
  )
  latents.block_until_ready()

  denoised = time.perf_counter()
  # One asset at a time: the decoder's maps are the largest of all.
  images = [
    _to_uint8(program.decode_fn(first.params, asset)) for asset in latents
  ]
  seconds = {
    "condition": prepared - start,
    "denoise": denoised - prepared,
    "decode": time.perf_counter() - denoised,
  }
  return np.stack(images), {k: round(v, 3) for k, v in seconds.items()}


def _conditioning(
  program: Program, name: str, *, prompts: Sequence[str]
) -> scores.Conditioning:
  """What one model is told about a batch."""
  request, model = program.request, program.models[name]

  def encode(texts: Sequence[str]) -> Array:
    ids = model.tokenizer(texts)
    return program.encode_fns[name](model.params, ids)

  texts, views = list(prompts), len(program.camera.intrinsics)
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
  camera = jax.tree.map(
    lambda x: jnp.broadcast_to(x[None], (len(texts), *x.shape)),
    program.camera,
  )
  _, height, width, _ = model.latent_shape(views)
  return scores.Conditioning(
    text=tokens,
    negative_text=negative,
    cameras=program.camera_fns[name](camera, height, width),
    guidance_scale=jnp.float32(scale),
    guidance_rescale=jnp.float32(request.guidance_rescale),
  )


def _to_uint8(
  images: Float[Array, "v h w 3"],
) -> UInt8[np.ndarray, "v h w 3"]:
  levels = np.clip(np.asarray(images, np.float32) * 127.5 + 127.5, 0, 255)
  return np.round(levels).astype(np.uint8)
