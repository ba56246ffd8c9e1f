"""Our CLIP against transformers' Flax CLIP."""

import json

import jax.numpy as jnp
import numpy as np
import pytest
import small_clip
import transformers

from mvjax.evaluation import clip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
  return small_clip.write(tmp_path_factory.mktemp("clip"))


@pytest.fixture(scope="module")
def reference(folder):
  """transformers' model with the same parameters."""
  config = transformers.CLIPConfig(
    **json.loads((folder / "config.json").read_text())
  )
  model = transformers.FlaxCLIPModel(config, _do_init=False)
  return model, as_transformers(clip.load(folder).params)


def as_transformers(params):
  """Our names to its: lists are dictionaries of numbers there."""

  def renamed(tree):
    out = {}
    for name, value in tree.items():
      value = renamed(value) if isinstance(value, dict) else value
      if name.startswith("layers_"):
        out.setdefault("layers", {})[name.removeprefix("layers_")] = value
      else:
        out[name] = value
    return out

  return renamed(params) | {"logit_scale": jnp.float32(4.6)}


def test_towers_match_transformers(folder, reference):
  model, params = reference
  ours = clip.load(folder)
  images = np.random.default_rng(1).standard_normal((2, 32, 32, 3))
  images = images.astype(np.float32)
  theirs = model.get_image_features(
    jnp.asarray(images.transpose(0, 3, 1, 2)), params=params
  )
  expected = theirs / jnp.linalg.norm(theirs, axis=-1, keepdims=True)
  np.testing.assert_allclose(ours.embed_images(images), expected, atol=2e-5)
  ids = ours.tokens(small_clip.PROMPTS)
  theirs = model.get_text_features(jnp.asarray(ids), params=params)
  expected = theirs / jnp.linalg.norm(theirs, axis=-1, keepdims=True)
  np.testing.assert_allclose(
    ours.embed_texts(small_clip.PROMPTS), expected, atol=2e-5
  )
