"""Names, against the key tables of the published checkpoints."""

import gzip
import json

import flax.traverse_util
import golden_weights
import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

from mvjax.nn import text_encoder, unet, vae
from mvjax.weights import names

SD21_HEADS = {"num_heads": (5, 10, 20, 20), "use_linear_projection": True}
SD21_TEXT = {
  "hidden_size": 1024,
  "intermediate_size": 4096,
  "num_layers": 23,
  "num_heads": 16,
}
# Published files: module and example inputs.
PUBLISHED = {
  "sd15_unet_diffusers": (unet.UNet(), 768),
  "sd21_unet_diffusers": (
    unet.UNet(cross_attention_dim=1024, **SD21_HEADS),
    1024,
  ),
  "vae_diffusers": (vae.VAE(), None),
  "sd15_text_encoder": (text_encoder.TextEncoder(), None),
  "sd21_text_encoder": (text_encoder.TextEncoder(**SD21_TEXT), None),
}


def _abstract(module, context):
  if context:
    inputs = (
      jnp.zeros((1, 8, 8, 4)),
      jnp.zeros(1),
      jnp.zeros((1, 1, context)),
    )
  elif isinstance(module, vae.VAE):
    inputs = (jnp.zeros((1, 8, 8, 3)),)
  else:
    inputs = (jnp.zeros((1, 1), jnp.int32),)
  return jax.eval_shape(module.init, jax.random.key(0), *inputs)["params"]


@pytest.mark.parametrize("name", list(PUBLISHED))
def test_full_size_modules_have_the_published_keys(name):
  path = golden_weights.FOLDER / "keys" / f"{name}.json.gz"
  published = {
    k: tuple(v) for k, v in json.loads(gzip.open(path).read()).items()
  }
  flat = flax.traverse_util.flatten_dict(_abstract(*PUBLISHED[name]))
  keys = {names.torch_key(path): leaf.shape for path, leaf in flat.items()}
  ours = {
    # Linear and convolution: (height, width, in, out) to torch's order.
    key: (shape[-1], shape[-2], *shape[:-2])
    if len(shape) > 1 and "embeddings" not in key
    else shape
    for key, shape in keys.items()
  }
  assert ours == published
  for path, leaf in flat.items():
    key = names.torch_key(path)
    assert names.linen_path(key, ndim=len(leaf.shape)) == path


@pytest.mark.parametrize(
  "path, key",
  [
    ("up_blocks_0/epipolar/attn1/query", "up_blocks.0.epipolar.attn1.query"),
    ("camera_embedding/linear_2/bias", "class_embedding.linear_2.bias"),
    ("block/camera_embedding/bias", "block.camera_embedding.bias"),
    ("block/ff/net_0/proj/kernel", "block.ff.net.0.proj.weight"),
  ],
)
def test_only_lists_are_indexed_and_unknown_leaves_are_kept(path, key):
  path = tuple(path.split("/"))
  assert names.torch_key(path) == key
  assert names.linen_path(key, ndim=2) == path


def test_a_state_dict_read_and_written_again_is_the_same():
  tensors = golden_weights.Golden("sd15_unet").tensors()
  again = names.to_torch(names.from_torch(tensors))
  assert again.keys() == tensors.keys()
  for key, value in tensors.items():
    np.testing.assert_array_equal(again[key], value, err_msg=key)


def test_kernel_axes():
  linear = np.arange(6.0).reshape(2, 3)
  conv = np.arange(120.0).reshape(2, 3, 4, 5)
  tree = names.from_torch({"a.weight": linear, "b.weight": conv})
  assert tree["a"]["kernel"][2, 1] == linear[1, 2]
  assert tree["b"]["kernel"][3, 4, 2, 1] == conv[1, 2, 3, 4]


def test_old_vae_attention_names_and_buffers_are_understood():
  tensors = golden_weights.Golden("vae").tensors()
  old = {"to_q": "query", "to_k": "key", "to_v": "value"}
  old["to_out.0"] = "proj_attn"
  renamed = {"x.position_ids": np.arange(3)}
  for key, value in tensors.items():
    if ".mid_block.attentions.0." in key:
      for new, before in old.items():
        key = key.replace(f".{new}.", f".{before}.")
    renamed[key] = value
  assert renamed.keys() != tensors.keys()
  expected = names.from_torch(tensors)
  names.check_tree(names.from_torch(renamed), expected, source="old")
  # The same words elsewhere are not the VAE's.
  other = names.from_torch({"epipolar.query.bias": np.zeros(1)})
  assert "query" in other["epipolar"]


def test_our_first_name_of_the_camera_embedding_is_understood():
  path = ("camera_embedding", "linear_1", "bias")
  for name in ("camera_embedding", "class_embedding"):
    tree = names.from_torch({f"{name}.linear_1.bias": np.ones(2)})
    assert list(flax.traverse_util.flatten_dict(tree)) == [path]
  twice = {f"{name}.bias": np.ones(2) for name in ("camera_embedding", "x")}
  twice["class_embedding.bias"] = np.zeros(2)
  with pytest.raises(ValueError, match="camera_embedding.bias is there under"):
    names.from_torch(twice)


def test_text_encoders_of_transformers_5_are_understood():
  """They have no leading `text_model.`; a VAE's encoder is left alone."""
  bias = np.zeros(2)
  keys = ("encoder.layers.0.mlp.fc1.bias", "final_layer_norm.bias")
  for key in keys:
    expected = names.from_torch({f"text_model.{key}": bias})
    assert names.from_torch({key: bias}) == expected
  (path,) = names.from_torch({"encoder.conv_in.bias": bias})
  assert path == "encoder"


def test_faults_are_listed_by_key():
  want = {"a": {"bias": np.zeros(2), "kernel": np.zeros((2, 2))}}
  got = {"a": {"bias": np.zeros(3)}, "b": {"scale": np.zeros(1)}}
  with pytest.raises(ValueError) as error:
    names.check_tree(got, want, source="unet/")
  text = str(error.value)
  assert "1 missing (a.weight)" in text
  assert "1 unexpected (b.weight)" in text
  assert "1 mis-shaped (a.bias (3,), not (2,))" in text
  many = {f"k{i}": {"bias": np.zeros(1)} for i in range(9)}
  with pytest.raises(ValueError, match=r"9 missing \(k0.*k3.bias, \.\.\.\)"):
    names.check_tree({}, many, source="unet/")


def test_cast_refuses_overflow_by_name():
  params = {"a": {"bias": jnp.array([1.0, 1e6])}}
  assert names.cast(params, ml_dtypes.bfloat16)["a"]["bias"].dtype == "bfloat16"
  with pytest.raises(ValueError, match="a.bias is not finite in float16"):
    names.cast(params, np.float16)
