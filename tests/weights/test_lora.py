"""LoRA files of every layout, against sums in float64 made by hand."""

import json

import golden_weights
import key_tables
import numpy as np
import pytest
import safetensors.numpy

from mvjax import tokenizer
from mvjax.weights import checkpoint, ldm, lora, single_file
from mvjax.weights import component as component_lib
from mvjax.weights import tensors as tensors_lib

ATTENTION = "down_blocks.0.attentions.0.transformer_blocks.0.attn1"
TEXT = "text_model.encoder.layers.0"
RANK = 3
# Names of the change of one weight: in the file, without `.lora_down...`.
KOHYA = {
  "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q": (
    "unet",
    f"{ATTENTION}.to_q",
  ),
  "lora_unet_input_blocks_1_1_transformer_blocks_0_attn1_to_out_0": (
    "unet",
    f"{ATTENTION}.to_out.0",
  ),
  "lora_unet_up_blocks_1_attentions_2_transformer_blocks_0_ff_net_0_proj": (
    "unet",
    "up_blocks.1.attentions.2.transformer_blocks.0.ff.net.0.proj",
  ),
  "lora_unet_mid_block_attentions_0_proj_in": (
    "unet",
    "mid_block.attentions.0.proj_in",
  ),
  "lora_unet_output_blocks_11_0_in_layers_2": (
    "unet",
    "up_blocks.3.resnets.2.conv1",
  ),
  "lora_unet_down_blocks_1_downsamplers_0_conv": (
    "unet",
    "down_blocks.1.downsamplers.0.conv",
  ),
  "lora_te_text_model_encoder_layers_0_mlp_fc1": (
    "text_encoder",
    f"{TEXT}.mlp.fc1",
  ),
}
# Names of diffusers' files of different ages, with the ends of the factors.
PEFT = (".lora_A.weight", ".lora_B.weight")
DIFFUSERS = [
  (f"unet.{ATTENTION}.to_q", PEFT, "unet", f"{ATTENTION}.to_q"),
  (f"unet.{ATTENTION}.to_out.0", PEFT, "unet", f"{ATTENTION}.to_out.0"),
  (
    f"text_encoder.{TEXT}.self_attn.q_proj",
    PEFT,
    "text_encoder",
    f"{TEXT}.self_attn.q_proj",
  ),
  (
    f"unet.{ATTENTION}.to_k",
    (".lora.down.weight", ".lora.up.weight"),
    "unet",
    f"{ATTENTION}.to_k",
  ),
  (
    f"unet.{ATTENTION}.processor.to_v_lora",
    (".down.weight", ".up.weight"),
    "unet",
    f"{ATTENTION}.to_v",
  ),
  (
    f"{ATTENTION}.processor.to_out_lora",
    (".down.weight", ".up.weight"),
    "unet",
    f"{ATTENTION}.to_out.0",
  ),
  (
    f"text_encoder.{TEXT}.self_attn.to_k_lora",
    (".down.weight", ".up.weight"),
    "text_encoder",
    f"{TEXT}.self_attn.k_proj",
  ),
  (
    f"text_encoder.{TEXT}.self_attn.out_proj",
    (".lora_linear_layer.down.weight", ".lora_linear_layer.up.weight"),
    "text_encoder",
    f"{TEXT}.self_attn.out_proj",
  ),
]


@pytest.fixture(scope="module")
def components():
  """The networks of goldens: widths 32 to 128, published names."""
  made = {}
  for name, golden, section in (
    ("unet", "sd15_unet", "unet"),
    ("text_encoder", "clip_text_sd15", "text"),
  ):
    golden = golden_weights.Golden(golden)
    made[name] = component_lib.Component(
      config=golden.config[section],
      tensors={
        key: tensors_lib.in_memory(value)
        for key, value in golden.tensors().items()
      },
    )
  return made


def factors(shape, rng):
  """Random down and up for a weight; a convolution's up is pointwise."""
  down = rng.normal(size=(RANK, *shape[1:])).astype(np.float32)
  up = rng.normal(size=(shape[0], RANK, *[1] * (len(shape) - 2)))
  return down, up.astype(np.float32)


def expected(weight, down, up, factor):
  """W + factor sum_r up[:, r] down[r], in float64 and without a product."""
  total = weight.astype(np.float64)
  for r in range(len(down)):
    column = up[:, r].astype(np.float64).reshape(-1, *[1] * (weight.ndim - 1))
    total = total + factor * column * down[r].astype(np.float64)
  return total


def merge(components, file, **options):
  tensors = {
    name: tensors_lib.in_memory(np.asarray(value))
    for name, value in file.items()
  }
  options = {"scale": 1.0, "source": "style.safetensors", **options}
  return lora.merge(components, tensors, **options)


@pytest.mark.parametrize("name", KOHYA)
@pytest.mark.parametrize("alpha", [None, 1.5])
def test_kohya_files_change_one_weight_as_by_hand(components, name, alpha):
  component, layer = KOHYA[name]
  key = f"{layer}.weight"
  weight = components[component].tensors[key].read()
  down, up = factors(weight.shape, np.random.default_rng(1))
  file = {f"{name}.lora_down.weight": down, f"{name}.lora_up.weight": up}
  if alpha is not None:
    file[f"{name}.alpha"] = np.float32(alpha)
  merged = merge(components, file, scale=0.7)
  factor = 0.7 * (1.0 if alpha is None else alpha / RANK)
  got = merged[component].tensors[key]
  assert got.shape == weight.shape and got.dtype == np.float32
  want = expected(weight, down, up, factor)
  np.testing.assert_allclose(got.read(), want, atol=2e-5)
  assert np.abs(want - weight).max() > 0.1
  for other, part in components.items():
    assert merged[other].config is part.config
    assert merged[other].tensors.keys() == part.tensors.keys()
    for k in part.tensors:
      if (other, k) != (component, key):
        assert merged[other].tensors[k] is part.tensors[k]


@pytest.mark.parametrize("name, ends, component, layer", DIFFUSERS)
def test_diffusers_files_of_any_age(components, name, ends, component, layer):
  key = f"{layer}.weight"
  weight = components[component].tensors[key].read()
  down, up = factors(weight.shape, np.random.default_rng(2))
  file = {name + ends[0]: down, name + ends[1]: up}
  got = merge(components, file)[component].tensors[key].read()
  np.testing.assert_allclose(got, expected(weight, down, up, 1.0), atol=2e-5)


def test_pointwise_layers_may_be_given_as_matrices(components):
  """Files of one layout are used on UNets of the other."""
  key = "mid_block.attentions.0.proj_in.weight"
  weight = components["unet"].tensors[key].read()
  assert weight.ndim == 4
  down, up = factors(weight.shape[:2], np.random.default_rng(3))
  name = "unet.mid_block.attentions.0.proj_in"
  file = {f"{name}.lora_A.weight": down, f"{name}.lora_B.weight": up}
  got = merge(components, file)["unet"].tensors[key].read()
  want = expected(weight[:, :, 0, 0], down, up, 1.0)
  np.testing.assert_allclose(got[:, :, 0, 0], want, atol=2e-5)


def test_half_precision_is_added_in_float32(components):
  """The sum of two halves would lose what is added."""
  part = components["unet"]
  key = f"{ATTENTION}.to_q.weight"
  half = part.tensors[key].read().astype(np.float16)
  changed = {**part.tensors, key: tensors_lib.in_memory(half)}
  base = {"unet": component_lib.Component(config=part.config, tensors=changed)}
  down, up = factors(half.shape, np.random.default_rng(4))
  down, up = (down * 1e-2).astype(np.float16), (up * 1e-2).astype(np.float16)
  name = f"unet.{ATTENTION}.to_q"
  file = {name + PEFT[0]: down, name + PEFT[1]: up}
  got = merge(base, file)["unet"].tensors[key]
  want = expected(half, down, up, 1.0)
  assert got.dtype == np.float32
  np.testing.assert_allclose(got.read(), want, atol=1e-7)


def test_full_size_names_are_unambiguous():
  """Dots become underscores, and still no two layers share a name."""
  for style in ("sd15", "sd21"):
    parts, _ = single_file.split(
      key_tables.stable_diffusion(style), source="512-base"
    )
    found = lora.layer_names(parts)
    layers = {
      (name, key)
      for name in ("unet", "text_encoder")
      for key, tensor in parts[name].tensors.items()
      if key.endswith(".weight") and len(tensor.shape) > 1
    }
    assert set(found.values()) == layers
    # Every name leads back to its own layer: none was taken by another.
    originals = ldm.inverse(ldm.unet_table(parts["unet"].config))
    for name, key in layers:
      kohya = {"unet": "lora_unet_", "text_encoder": "lora_te_"}[name]
      spelled = [kohya + key.replace(".", "_")]
      if name == "unet":
        old = originals[key].removeprefix(ldm.UNET)
        spelled.append(kohya + old.replace(".", "_"))
      for spelling in spelled:
        assert found[spelling.removesuffix("_weight")] == (name, key)


@pytest.mark.parametrize(
  "names, words",
  [
    (["lora_unet_nowhere.lora_down.weight"], "1 of its 1 tensors.*nowhere"),
    (["lora_te2_text_model_x.lora_down.weight"], "another base model .XL"),
    ([f"unet.{ATTENTION}.to_q.hada_w1_a"], "LoHa"),
    (["model.diffusion_model.out.2.weight"], "not a LoRA"),
    ([], "0 of its 0"),
    ([f"unet.{ATTENTION}.to_q.lora_A.weight"], "has only down"),
    (
      [
        f"unet.{ATTENTION}.to_q.lora_A.weight",
        f"unet.{ATTENTION}.to_q.lora.down.weight",
      ],
      "of one weight",
    ),
  ],
)
def test_what_is_no_lora_of_this_model_is_refused(components, names, words):
  file = {name: np.zeros((2, 2), np.float32) for name in names}
  with pytest.raises(ValueError, match=f"style.safetensors.*{words}"):
    merge(components, file)


def test_other_shapes_are_refused_by_name(components):
  name = f"unet.{ATTENTION}.to_q"
  file = {name + PEFT[0]: np.zeros((2, 9)), name + PEFT[1]: np.zeros((32, 2))}
  with pytest.raises(ValueError, match=rf"{ATTENTION}.to_q.* \(2, 9\)"):
    merge(components, file)


@pytest.fixture
def base(components):
  tokens = tokenizer.train_tokenizer(["a red sofa"], 600, length=8)
  return checkpoint.Checkpoint(
    source="base", components=components, scheduler={}, tokenizer=tokens
  )


@pytest.mark.parametrize("noted, factor", [({}, 1.0), ({"lora_alpha": 6}, 2.0)])
def test_a_file_and_its_noted_alpha(base, tmp_path, noted, factor):
  key = f"{ATTENTION}.to_q.weight"
  weight = base.components["unet"].tensors[key].read()
  down, up = factors(weight.shape, np.random.default_rng(5))
  name = f"unet.{ATTENTION}.to_q"
  path = tmp_path / "style.safetensors"
  note = {f"unet.{option}": value for option, value in noted.items()}
  safetensors.numpy.save_file(
    {name + PEFT[0]: down, name + PEFT[1]: up},
    path,
    metadata={"lora_adapter_metadata": json.dumps(note)} if note else None,
  )
  changed = lora.with_lora(base, path, 0.5)
  assert changed.tokenizer is base.tokenizer
  got = changed.components["unet"].tensors[key].read()
  want = expected(weight, down, up, 0.5 * factor)
  np.testing.assert_allclose(got, want, atol=2e-5)
  # Another one on top adds to the first.
  twice = lora.with_lora(changed, path, 0.5)
  want = expected(weight, down, up, factor)
  got = twice.components["unet"].tensors[key].read()
  np.testing.assert_allclose(got, want, atol=4e-5)


def test_notes_that_change_the_sum_are_refused(base, tmp_path):
  name, path = f"unet.{ATTENTION}.to_q", tmp_path / "style.safetensors"
  file = {name + PEFT[0]: np.ones((2, 32)), name + PEFT[1]: np.ones((32, 2))}
  for note, words in (
    ('{"unet.use_dora": true}', "unet.use_dora is set"),
    ("[", "header entry"),
  ):
    metadata = {"lora_adapter_metadata": note}
    safetensors.numpy.save_file(file, path, metadata=metadata)
    with pytest.raises(ValueError, match=words):
      lora.with_lora(base, path)
  with pytest.raises(FileNotFoundError, match="nowhere"):
    lora.with_lora(base, tmp_path / "nowhere.safetensors")
