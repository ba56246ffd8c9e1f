"""The text encoder against PyTorch transformers' CLIPTextModel."""

import golden_weights
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mvjax.models import configs
from mvjax.nn import text_encoder


@pytest.mark.parametrize("name", ["clip_text_sd15", "clip_text_sd21"])
def test_matches_transformers(name):
  golden = golden_weights.Golden(name)
  module = configs.text_encoder_from_config(golden.config["text"])
  ids = jnp.asarray(golden["in.input_ids"], jnp.int32)
  tensors = golden.tensors()
  projection = tensors.pop("text_projection.weight")
  variables = golden_weights.fitted(tensors, module, ids)
  last, penultimate = jax.jit(module.apply)(variables, ids)
  np.testing.assert_allclose(last, golden["out.last_hidden_state"], atol=5e-5)
  np.testing.assert_allclose(
    penultimate, golden["out.penultimate_final_ln"], atol=5e-5
  )
  # The end-of-text token has the largest id.
  pooled = np.take_along_axis(
    np.asarray(last), np.asarray(ids).argmax(1)[:, None, None], axis=1
  )[:, 0]
  np.testing.assert_allclose(
    pooled @ projection.T, golden["out.text_embeds"], atol=5e-5
  )


@pytest.fixture(scope="module")
def small():
  module = text_encoder.TextEncoder(
    vocab_size=20,
    max_length=6,
    hidden_size=16,
    intermediate_size=32,
    num_layers=2,
    num_heads=2,
  )
  ids = jnp.array([[3, 1, 4, 1, 5]])
  return module, golden_weights.random_variables(module, ids), ids


def test_a_token_depends_on_itself_and_earlier_ones_only(small):
  module, variables, ids = small
  before, _ = module.apply(variables, ids)
  after, _ = module.apply(variables, ids.at[0, 2].set(7))
  changed = jnp.abs(before - after).max(-1)[0] > 1e-6
  np.testing.assert_array_equal(changed, [False, False, True, True, True])


def test_a_text_longer_than_the_position_table_is_refused(small):
  module, variables, _ = small
  with pytest.raises(ValueError, match="max_length=6"):
    module.apply(variables, jnp.zeros((1, 7), jnp.int32))
