"""The shipped 2D model: the same picture from PyTorch's pipeline and ours."""

import diffusers
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
import torch_models

from mvjax import sampling, scores
from mvjax.models import loading

PROMPT, NEGATIVE = "a red leather sofa, front view", "blue"
STEPS, GUIDANCE = 4, 3.0


@pytest.fixture(scope="module")
def ours():
  return loading.load(torch_models.NANO)


@pytest.fixture(scope="module")
def latents(ours):
  return torch_models.draw(1, *ours.latent_shape(1))


@pytest.mark.parametrize("settings", [{}, {"dtype": torch.float32}])
def test_same_image_from_the_same_latents(ours, latents, settings):
  """At most one of 256 levels apart, which rounding decides."""
  pipeline = diffusers.StableDiffusionPipeline.from_pretrained(
    torch_models.NANO, **settings
  )
  pipeline.set_progress_bar_config(disable=True)
  (theirs,) = pipeline(
    PROMPT,
    negative_prompt=NEGATIVE,
    latents=torch_models.to_torch(latents[0]),
    num_inference_steps=STEPS,
    guidance_scale=GUIDANCE,
    output_type="np",
  ).images
  (mine,) = draw(ours, latents)
  mine = np.clip(mine / 2 + 0.5, 0, 1)
  assert theirs.std() > 0.02
  # 128 px of a picture, in [0, 1].
  levels = 255 * np.abs(mine - theirs)
  assert levels.max() < 1.0
  assert levels.mean() < 0.02


def draw(model, latents):
  """Our images [v h w 3] of one asset, in [-1, 1]."""
  steps = sampling.make_steps(
    model.schedule, STEPS, mode="2d", lambda_schedule="constant:0"
  )
  texts = [
    jax.jit(model.encode_text)(
      model.params, jnp.asarray(model.tokenizer([text]))
    )
    for text in (PROMPT, NEGATIVE)
  ]
  x = sampling.denoise(
    scores.mix({"image": scores.classifier_free_guidance(model.score)}),
    {"image": model.params},
    jnp.asarray(latents),
    conditioning={
      "image": scores.Conditioning(
        text=texts[0],
        negative_text=texts[1],
        guidance_scale=jnp.float32(GUIDANCE),
      )
    },
    steps=steps,
    keys=jax.random.key(0)[None],
    eta=0.0,
  )
  return jax.jit(model.decode)(model.params, x[0])
