"""Our CLIP against transformers' Flax CLIP and its image processor."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy
from PIL import Image

from mvjax import tokenizer
from mvjax.evaluation import clip, vision_transformer
from mvjax.nn import text_encoder
from mvjax.weights import names

PROMPTS = ["a red sofa", "a small wooden chair", "a dog"]
TOWER = {
  "hidden_size": 32,
  "intermediate_size": 48,
  "num_hidden_layers": 2,
  "num_attention_heads": 4,
  "hidden_act": "quick_gelu",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
  """A small random CLIP on disk."""
  home = tmp_path_factory.mktemp("clip")
  tokens = tokenizer.train_tokenizer(PROMPTS * 5, 600, length=12)
  tokens.save(home)
  config = {
    "projection_dim": 24,
    "text_config": TOWER
    | {
      "vocab_size": tokens.vocab_size,
      "max_position_embeddings": 12,
      "eos_token_id": tokens.end_id,
    },
    "vision_config": TOWER | {"image_size": 32, "patch_size": 8},
  }
  (home / "config.json").write_text(json.dumps(config))
  sizes = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_layers": 2,
    "num_heads": 4,
  }
  abstract = clip._abstract(
    text_encoder.TextEncoder(
      vocab_size=tokens.vocab_size, max_length=12, **sizes
    ),
    vision_transformer.VisionTower(image_size=32, patch_size=8, **sizes),
    24,
  )
  rng = np.random.default_rng(0)
  params = jax.tree.map(
    lambda x: 0.2 * rng.standard_normal(x.shape, np.float32), abstract
  )
  state = names.to_torch(params)
  state["logit_scale"] = np.array(4.6, np.float32)
  state["text_model.embeddings.position_ids"] = np.arange(12)[None]
  safetensors.numpy.save_file(
    state, home / "model.safetensors", metadata={"format": "pt"}
  )
  return home


@pytest.fixture(scope="module")
def reference(folder):
  """transformers' model with the same parameters."""
  transformers = pytest.importorskip("transformers")
  config = transformers.CLIPConfig(
    **json.loads((folder / "config.json").read_text())
  )
  try:
    model = transformers.FlaxCLIPModel(config, _do_init=False)
  except (AttributeError, ImportError):
    pytest.skip("this transformers has no Flax classes")
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
  ids = ours.tokens(PROMPTS)
  theirs = model.get_text_features(jnp.asarray(ids), params=params)
  expected = theirs / jnp.linalg.norm(theirs, axis=-1, keepdims=True)
  np.testing.assert_allclose(ours.embed_texts(PROMPTS), expected, atol=2e-5)


@pytest.mark.parametrize("size", [(64, 64), (20, 20), (40, 70)])
def test_images_are_prepared_as_by_the_processor(size):
  """Its resizing of oblong pictures comes first: there the middle differs."""
  transformers = pytest.importorskip("transformers")
  processor = transformers.CLIPImageProcessor(
    size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}
  )
  levels = np.random.default_rng(2).integers(0, 256, (*size, 3), np.uint8)
  levels = np.asarray(
    Image.fromarray(levels).resize(size[::-1], Image.Resampling.BILINEAR)
  )
  theirs = processor(Image.fromarray(levels), return_tensors="np")
  expected = theirs["pixel_values"][0].transpose(1, 2, 0)
  got = clip.prepare(levels / 127.5 - 1, 32)
  if size[0] == size[1]:
    np.testing.assert_allclose(got, expected, atol=1e-5)
  else:
    assert np.abs(got - expected).mean() < 0.3 * expected.std()


def test_scores_and_first_places():
  images = np.array([[1.0, 0.0], [0.6, 0.8], [-1.0, 0.0]])
  texts = np.array([[1.0, 0.0], [0.0, 1.0]])
  scores = clip.similarities(images, texts)
  np.testing.assert_allclose(scores, [[100, 0], [60, 80], [0, 0]])
  # A tie is not a first place.
  np.testing.assert_array_equal(
    clip.is_first(scores, np.array([0, 0, 0])), [True, False, False]
  )


def test_missing_parts_are_named(folder, tmp_path):
  with pytest.raises(FileNotFoundError, match="config.json"):
    clip.load(tmp_path)
  state = safetensors.numpy.load_file(folder / "model.safetensors")
  del state["visual_projection.weight"]
  for file in folder.iterdir():
    (tmp_path / file.name).write_bytes(file.read_bytes())
  safetensors.numpy.save_file(state, tmp_path / "model.safetensors")
  with pytest.raises(ValueError, match="visual_projection"):
    clip.load(tmp_path)
