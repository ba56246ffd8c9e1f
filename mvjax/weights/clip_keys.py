"""Names of the text encoders in single files, and transformers' names.

SD 1.x files hold CLIP ViT-L as transformers names it, below a prefix. SD 2.x
files hold OpenCLIP ViT-H, whose attention keeps queries, keys and values as
the rows of one matrix. A table gives for every name in the file the names in
the component that take equal shares of its rows: one name, or those three.

SD 2.x conditions on the second-last layer's tokens. The files hold the last
layer all the same; the component is without it (23 layers of ViT-H, as
published in diffusers' layout), so a file written from it is too.
"""

from collections.abc import Mapping
from typing import Any

from mvjax.weights import shapes
from mvjax.weights import tensors as tensors_lib

CLIP = "cond_stage_model.transformer."
OPEN_CLIP = "cond_stage_model.model."
# Layers of the published SD 2.x component.
OPEN_CLIP_LAYERS = 23
_HEAD_WIDTH = 64

# Beside the encoder: position numbers, the causal mask, and what compares
# pooled texts with images.
UNUSED = (
  f"{CLIP}text_model.embeddings.position_ids",
  f"{CLIP}text_projection.weight",
  f"{CLIP}logit_scale",
  f"{OPEN_CLIP}text_projection",
  f"{OPEN_CLIP}logit_scale",
  f"{OPEN_CLIP}attn_mask",
)

_LAYER = (
  "layer_norm1",
  "self_attn.q_proj",
  "self_attn.k_proj",
  "self_attn.v_proj",
  "self_attn.out_proj",
  "layer_norm2",
  "mlp.fc1",
  "mlp.fc2",
)
_OPEN_CLIP_LAYER = {
  "ln_1": "layer_norm1",
  "attn.out_proj": "self_attn.out_proj",
  "ln_2": "layer_norm2",
  "mlp.c_fc": "mlp.fc1",
  "mlp.c_proj": "mlp.fc2",
}
_LEAVES = ("weight", "bias")

Table = dict[str, tuple[str, ...]]


def is_open_clip(config: Mapping[str, Any]) -> bool:
  """Whether a CLIPTextModel config is of the encoder of SD 2.x.

  The two differ in their activation, which weights do not show: the layout
  of a file stands for it.
  """
  return config["hidden_act"] == "gelu"


def text_table(config: Mapping[str, Any]) -> Table:
  """Names in the file to names in `text_encoder/`, for its config."""
  layers = config["num_hidden_layers"]
  return open_clip_table(layers) if is_open_clip(config) else clip_table(layers)


def clip_table(num_layers: int) -> Table:
  """Names of SD 1.x files."""
  names = [
    "embeddings.token_embedding.weight",
    "embeddings.position_embedding.weight",
    *(
      f"encoder.layers.{i}.{layer}.{leaf}"
      for i in range(num_layers)
      for layer in _LAYER
      for leaf in _LEAVES
    ),
    *(f"final_layer_norm.{leaf}" for leaf in _LEAVES),
  ]
  return {f"{CLIP}text_model.{n}": (f"text_model.{n}",) for n in names}


def open_clip_table(num_layers: int) -> Table:
  """Names of SD 2.x files, for the layers that are run."""
  embeddings = "text_model.embeddings"
  table: Table = {
    "token_embedding.weight": (f"{embeddings}.token_embedding.weight",),
    "positional_embedding": (f"{embeddings}.position_embedding.weight",),
  }
  for i in range(num_layers):
    old, new = _block(i), f"text_model.encoder.layers.{i}"
    for leaf in _LEAVES:
      table[f"{old}.attn.in_proj_{leaf}"] = tuple(
        f"{new}.self_attn.{name}_proj.{leaf}" for name in "qkv"
      )
      for layer, new_layer in _OPEN_CLIP_LAYER.items():
        table[f"{old}.{layer}.{leaf}"] = (f"{new}.{new_layer}.{leaf}",)
  for leaf in _LEAVES:
    table[f"ln_final.{leaf}"] = (f"text_model.final_layer_norm.{leaf}",)
  return {f"{OPEN_CLIP}{old}": new for old, new in table.items()}


def unused_layer(config: Mapping[str, Any]) -> frozenset[str]:
  """Names of the layer that SD 2.x files hold beyond those of a component."""
  if not is_open_clip(config):
    return frozenset()
  last = config["num_hidden_layers"]
  head = f"{OPEN_CLIP}{_block(last)}."
  return frozenset(n for n in open_clip_table(last + 1) if n.startswith(head))


def text_config(tensors: tensors_lib.Tensors) -> dict[str, Any]:
  """The CLIPTextModel config of a file's text encoder, from its shapes.

  Layers of an OpenCLIP file are all but the last, unless there are the 23 of
  a component.

  Raises:
    ValueError: names the tensor that is missing or has an impossible shape.
  """
  if f"{OPEN_CLIP}ln_final.weight" in tensors:
    blocks = shapes.count(tensors, f"{OPEN_CLIP}{_block('{}')}.ln_1.weight")
    layers = blocks if blocks == OPEN_CLIP_LAYERS else blocks - 1
    table = open_clip_table(layers)
    activation, padding = "gelu", 0
  else:
    head = f"{CLIP}text_model.encoder.layers"
    layers = shapes.count(tensors, f"{head}.{{}}.layer_norm1.weight")
    table = clip_table(layers)
    activation, padding = "quick_gelu", None
  old = {new[0]: name for name, new in table.items()}

  def matrix(name: str) -> tuple[int, ...]:
    key = f"text_model.{name}.weight"
    # Without any layer the table has no names of one.
    return shapes.shape(tensors, old.get(key, key), 2)

  vocabulary, width = matrix("embeddings.token_embedding")
  return {
    "architectures": ["CLIPTextModel"],
    "bos_token_id": vocabulary - 2,
    "eos_token_id": vocabulary - 1,
    "hidden_act": activation,
    "hidden_size": width,
    "intermediate_size": matrix("encoder.layers.0.mlp.fc1")[0],
    "layer_norm_eps": 1e-5,
    "max_position_embeddings": matrix("embeddings.position_embedding")[0],
    "model_type": "clip_text_model",
    "num_attention_heads": max(1, width // _HEAD_WIDTH),
    "num_hidden_layers": layers,
    "pad_token_id": vocabulary - 1 if padding is None else padding,
    "projection_dim": width,
    "vocab_size": vocabulary,
  }


def _block(index: int | str) -> str:
  return f"transformer.resblocks.{index}"
