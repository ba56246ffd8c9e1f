"""A small random CLIP on disk."""

import json

import jax
import numpy as np
import safetensors.numpy

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


def write(home):
  """Fills a folder; returns it."""
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
