"""Key tables of the text encoders, against the published ones."""

import key_tables
import pytest

from mvjax.weights import clip_keys

FILES = {
  "mvdream_sd15_text_and_buffers": "sd15_text_encoder",
  "mvdream_sd21_text_and_buffers": "sd21_text_encoder",
}
HEAD = ("cond_stage_model.",)


@pytest.mark.parametrize("old_name, new_name", FILES.items())
def test_tables_are_one_to_one_and_onto(old_name, new_name):
  old, new = key_tables.tensors(old_name), key_tables.shapes(new_name)
  config = clip_keys.text_config(old)
  table = clip_keys.text_table(config)
  images = [name for shares in table.values() for name in shares]
  assert len(set(images)) == len(images)
  assert set(images) == new.keys()
  unused = {*clip_keys.UNUSED, *clip_keys.unused_layer(config)}
  assert not table.keys() & unused
  held = {key for key in old if key.startswith(HEAD)}
  assert held - table.keys() <= unused
  assert table.keys() <= held
  for old_key, shares in table.items():
    rows = sum(new[name][0] for name in shares)
    assert old[old_key].shape == (rows, *new[shares[0]][1:]), old_key


def test_the_last_open_clip_layer_is_left_out():
  tensors = key_tables.tensors("mvdream_sd21_text_and_buffers")
  config = clip_keys.text_config(tensors)
  assert config["num_hidden_layers"] == 23
  last = clip_keys.unused_layer(config)
  assert len(last) == 12
  assert last <= tensors.keys()
  assert all(".resblocks.23." in name for name in last)
  # A file that was written from the component has no such layer.
  kept = {key: value for key, value in tensors.items() if key not in last}
  assert clip_keys.text_config(kept) == config


def test_queries_keys_and_values_share_rows_in_this_order():
  table = clip_keys.open_clip_table(2)
  block = "cond_stage_model.model.transformer.resblocks.1"
  layer = "text_model.encoder.layers.1.self_attn"
  assert table[f"{block}.attn.in_proj_bias"] == (
    f"{layer}.q_proj.bias",
    f"{layer}.k_proj.bias",
    f"{layer}.v_proj.bias",
  )


@pytest.mark.parametrize(
  "name, expected",
  [
    (
      "mvdream_sd15_text_and_buffers",
      {
        "hidden_act": "quick_gelu",
        "hidden_size": 768,
        "intermediate_size": 3072,
        "num_attention_heads": 12,
        "num_hidden_layers": 12,
        "pad_token_id": 49407,
      },
    ),
    (
      "mvdream_sd21_text_and_buffers",
      {
        "hidden_act": "gelu",
        "hidden_size": 1024,
        "intermediate_size": 4096,
        "num_attention_heads": 16,
        "pad_token_id": 0,
      },
    ),
  ],
)
def test_configs_are_read_from_shapes(name, expected):
  config = clip_keys.text_config(key_tables.tensors(name))
  shared = {
    "eos_token_id": 49407,
    "max_position_embeddings": 77,
    "vocab_size": 49408,
  }
  for key, value in (shared | expected).items():
    assert config[key] == value, key


def test_a_missing_encoder_is_named():
  with pytest.raises(ValueError, match="token_embedding.weight is missing"):
    clip_keys.text_config({})
