"""What the models' scores promise to the sampler."""

import dataclasses

import jax
import numpy as np
import pytest

from mvjax import diffusion, geometry, scores
from mvjax.models import loading

VIEWS = 2


@pytest.fixture(scope="module")
def image(model_folders):
  return make_case(model_folders["image"])


@pytest.fixture(scope="module")
def multiview(model_folders):
  return make_case(model_folders["multiview"])


def make_case(folder):
  """A model with everything its score takes, and its jitted score."""
  model = loading.load(folder)
  random = np.random.default_rng(0)
  camera = geometry.orbit(
    azimuth=np.array([[0.0, 1.5], [0.3, 2.0]]),
    elevation=0.3,
    distance=3.0,
    field_of_view=0.7,
    xnp=np,
  )
  shape = (2, *model.latent_shape(VIEWS))
  level = model.schedule.level(np.float32(400.5))
  conditioning = scores.Conditioning(
    text=random.normal(size=(2, 12, 16)).astype(np.float32),
    cameras=jax.jit(model.camera_conditioning, static_argnums=(1, 2))(
      camera, *shape[2:4]
    ),
  )
  return (
    model,
    jax.jit(model.score),
    random.normal(size=shape).astype(np.float32),
    scores.Step(level=level, weights={}),
    conditioning,
  )


@pytest.mark.parametrize("name", ["image", "multiview"])
def test_prediction_explains_x(request, name):
  model, score, x, step, conditioning = request.getfixturevalue(name)
  prediction = score(model.params, x, step, conditioning)
  np.testing.assert_allclose(
    diffusion.add_noise(prediction.x0, prediction.eps, level=step.level),
    x,
    atol=1e-5,
  )


def test_one_text_is_the_same_text_for_every_view(image):
  model, score, x, step, conditioning = image
  shared = score(model.params, x, step, conditioning)
  text = np.repeat(conditioning.text[:, None], VIEWS, 1)
  per_view = dataclasses.replace(conditioning, text=text)
  own = score(model.params, x, step, per_view)
  np.testing.assert_allclose(own.eps, shared.eps, atol=1e-5)
  text[:, 1] = text[::-1, 1]
  other = score(
    model.params, x, step, dataclasses.replace(conditioning, text=text)
  )
  changed = np.abs(other.eps - shared.eps).max((0, 2, 3, 4)) > 1e-3
  assert changed[1]


def test_single_view_score_ignores_the_other_views(multiview):
  model, score, x, step, conditioning = multiview
  alone = jax.jit(model.single_view_score)
  before = alone(model.params, x, step, conditioning)
  changed = x.copy()
  changed[:, 1] += 1.0
  after = alone(model.params, changed, step, conditioning)
  np.testing.assert_array_equal(after.eps[:, 0], before.eps[:, 0])
  joint = [
    score(model.params, latents, step, conditioning).eps[:, 0]
    for latents in (x, changed)
  ]
  assert np.abs(joint[1] - joint[0]).max() > 1e-4
