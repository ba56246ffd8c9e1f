"""Single files: published key tables, goldens, and files of other kinds."""

import functools
import warnings

import golden_weights
import jax
import jax.numpy as jnp
import key_tables
import numpy as np
import pytest

from mvjax import diffusion, tokenizer
from mvjax.models import configs
from mvjax.nn import vae
from mvjax.weights import clip_keys, description, families, ldm, single_file
from mvjax.weights import component as component_lib
from mvjax.weights import tensors as tensors_lib

SD15, SD21 = "sd15_unet_diffusers", "sd21_unet_diffusers"
CAMERA = {
  f"class_embedding.linear_{layer}.{leaf}"
  for layer in (1, 2)
  for leaf in ("weight", "bias")
}
# Family: its file, its UNet's and its text encoder's published tables.
FAMILIES = {
  "sd15": (SD15, "sd15_text_encoder"),
  "sd21": (SD21, "sd21_text_encoder"),
  "mvdream_sd15": (SD15, "sd15_text_encoder"),
  "mvdream_sd21": (SD21, "sd21_text_encoder"),
  "spad_two_views": (SD15, "sd15_text_encoder"),
  "spad_four_views": (SD15, "sd15_text_encoder"),
}
UNET_KEY = f"{ldm.UNET}input_blocks.0.0.weight"


def published(family):
  if family in ("sd15", "sd21"):
    return key_tables.stable_diffusion(family)
  return key_tables.file_of(family)


def split(tensors, source="v2-1_512-ema-pruned.safetensors", **options):
  return single_file.split(tensors, source=source, **options)


def named(*names):
  """Tensors of no importance under these names."""
  return {n: tensors_lib.in_memory(np.zeros((2, 2), np.float32)) for n in names}


@pytest.mark.parametrize("family", FAMILIES)
def test_full_size_files_come_apart_into_the_published_components(family):
  parts, _ = split(published(family))
  unet_table, text_table = FAMILIES[family]
  unet = key_tables.shapes(unet_table).keys()
  added = set() if family in ("sd15", "sd21") else CAMERA
  assert parts["unet"].tensors.keys() == unet | added
  for name, table in (("vae", "vae_diffusers"), ("text_encoder", text_table)):
    shapes = {k: t.shape for k, t in parts[name].tensors.items()}
    assert shapes == key_tables.shapes(table), name


@pytest.mark.parametrize("family", FAMILIES)
def test_split_and_join_give_the_file_without_what_is_unused(family):
  tensors = published(family)
  parts, _ = split(tensors)
  again = single_file.join(parts)
  unused = single_file.unused({k: part.config for k, part in parts.items()})
  expected = tensors.keys() - unused
  assert again.keys() == expected
  for name in expected:
    assert again[name].shape == tensors[name].shape, name
  left = {name.split(".")[0] for name in tensors.keys() & unused}
  assert "betas" in left and "first_stage_model" not in left


@pytest.mark.parametrize(
  "family, expected",
  [
    ("sd15", {"sample_size": 64, "class_embed_type": None}),
    ("sd21", {"sample_size": 64, "use_linear_projection": True}),
    ("mvdream_sd21", {"sample_size": 32, "class_embed_type": "projection"}),
    (
      "mvdream_sd15",
      {"sample_size": 32, "_class_name": "UNet2DConditionModel"},
    ),
    ("spad_two_views", {"mask_resize": "released", "_class_name": "SPADUNet"}),
  ],
)
def test_families_differ_in_the_unet_config(family, expected):
  parts, scheduler = split(published(family))
  for key, value in expected.items():
    assert parts["unet"].config.get(key) == value, key
  module = configs.unet_from_config(parts["unet"].config)
  assert module.block_out_channels == (320, 640, 1280, 1280)
  configs.vae_from_config(parts["vae"].config)
  configs.text_encoder_from_config(parts["text_encoder"].config)
  # Check values of facts about Stable Diffusion's schedule.
  schedule = diffusion.NoiseSchedule.from_config(scheduler)
  assert schedule.alphas_cumprod[0] == pytest.approx(0.99915, abs=1e-6)
  assert schedule.alphas_cumprod[999] == pytest.approx(0.004660, abs=1e-6)


@pytest.mark.parametrize(
  "source, expected, side",
  [
    ("weights/v2-1_768-ema-pruned.ckpt", "v_prediction", 96),
    ("768-v-ema.ckpt", "v_prediction", 96),
    ("v2-1_512-ema-pruned.safetensors", "epsilon", 64),
    ("v2-1_768/512-base-ema.ckpt", "epsilon", 64),
  ],
)
def test_the_name_tells_what_sd2_predicts(source, expected, side):
  parts, scheduler = split(published("sd21"), source)
  assert scheduler["prediction_type"] == expected
  assert parts["unet"].config["sample_size"] == side
  assert parts["vae"].config["sample_size"] == 8 * side


def test_a_unet_in_a_folder_may_keep_its_original_names():
  """As in MVDream's conversions to folders, with its authors' config."""
  tensors = key_tables.file_of("mvdream_sd21")
  expected = single_file.split(tensors, source="mvdream.pt")[0]["unet"]
  kept = {
    name.removeprefix(ldm.UNET): tensor
    for name, tensor in tensors.items()
    if name.startswith(ldm.UNET)
  }
  config = {"_class_name": "MultiViewUNetModel", "num_head_channels": 64}

  def read(tensors):
    return single_file.original_unet(
      component_lib.Component(config=config, tensors=tensors), source="unet/"
    )

  got = read(kept)
  assert got.config == expected.config
  assert got.tensors.keys() == expected.tensors.keys()
  for name, tensor in got.tensors.items():
    assert tensor.shape == expected.tensors[name].shape
  with pytest.raises(ValueError, match="unet/.*1 unexpected .*half"):
    read(kept | {"half": kept["out.2.bias"]})


def test_a_guess_is_announced_and_can_be_overruled():
  with pytest.warns(UserWarning, match="mine.ckpt.*taken as noise"):
    _, scheduler = split(published("sd21"), "mine.ckpt")
  assert scheduler["prediction_type"] == "epsilon"
  with warnings.catch_warnings():
    warnings.simplefilter("error")
    _, scheduler = split(
      published("sd21"), "mine.ckpt", prediction_type="v_prediction"
    )
    assert scheduler["prediction_type"] == "v_prediction"
    # No other family needs to guess.
    for family in ("sd15", "mvdream_sd21", "spad_two_views"):
      _, scheduler = split(published(family), "768-v.ckpt")
      assert scheduler["prediction_type"] == "epsilon"


def valued(tensors, values):
  """The tensors, with values in place of some."""
  return tensors | {
    name: tensors_lib.in_memory(np.full(tensors[name].shape, value, np.float32))
    for name, value in values.items()
  }


def test_spad_is_read_from_its_moving_average():
  average = "model_ema.diffusion_modelinput_blocks00weight"
  tensors = valued(published("spad_two_views"), {UNET_KEY: 1.0, average: 2.0})
  parts, _ = split(tensors)
  assert (parts["unet"].tensors["conv_in.weight"].read() == 2.0).all()
  # The camera embedding has no average.
  kept = {k: v for k, v in tensors.items() if not k.startswith("model_ema.")}
  parts, _ = split(kept)
  assert (parts["unet"].tensors["conv_in.weight"].read() == 1.0).all()
  kept[average] = tensors[average]
  with pytest.raises(ValueError, match="685 missing .model_ema"):
    split(kept)


def test_stable_diffusion_is_read_from_its_plain_weights():
  tensors = published("sd15")
  copies = {
    ldm.average_name(name): tensor
    for name, tensor in tensors.items()
    if name.startswith("model.")
  }
  average = ldm.average_name(UNET_KEY)
  tensors = valued(tensors | copies, {UNET_KEY: 1.0, average: 2.0})
  parts, _ = split(tensors)
  assert (parts["unet"].tensors["conv_in.weight"].read() == 1.0).all()


def test_rows_of_open_clip_attention_are_queries_keys_and_values():
  name = f"{clip_keys.OPEN_CLIP}transformer.resblocks.4.attn.in_proj_weight"
  rows = np.arange(3072, dtype=np.float32)[:, None]
  tensors = published("mvdream_sd21")
  tensors[name] = tensors_lib.in_memory(np.broadcast_to(rows, (3072, 1024)))
  parts, _ = split(tensors)
  for i, part in enumerate("qkv"):
    key = f"text_model.encoder.layers.4.self_attn.{part}_proj.weight"
    first = parts["text_encoder"].tensors[key].read()[0, 0]
    assert first == 1024 * i
  again = single_file.join(parts)[name]
  np.testing.assert_array_equal(again.read(), tensors[name].read())


def test_pointwise_convolutions_become_matrices_and_back():
  name = f"{ldm.VAE}decoder.mid.attn_1.proj_out.weight"
  values = np.random.default_rng(0).normal(size=(512, 512, 1, 1))
  tensors = published("sd15") | {name: tensors_lib.in_memory(values)}
  parts, _ = split(tensors)
  key = "decoder.mid_block.attentions.0.to_out.0.weight"
  matrix = parts["vae"].tensors[key].read()
  np.testing.assert_array_equal(matrix, values[:, :, 0, 0])
  np.testing.assert_array_equal(single_file.join(parts)[name].read(), values)


@functools.partial(jax.jit, static_argnums=(0, 1))
def run(module, method, variables, inputs):
  return module.apply(variables, inputs, method=method)


@pytest.mark.parametrize("name", ["mvdream_sd15", "mvdream_sd21"])
def test_goldens_of_the_original_code_come_out(name):
  """A file with the golden's weights has the golden's autoencoder."""
  golden = golden_weights.Golden(name)
  tensors = {k: tensors_lib.in_memory(v) for k, v in golden.tensors().items()}
  text = key_tables.small_text(open_clip=name == "mvdream_sd21", layers=3)
  parts, _ = split(tensors | text, head_dim=16)
  # Heads of width 16 in linear style, and 8 of them in the other.
  heads = {"mvdream_sd15": [8, 8, 8, 8], "mvdream_sd21": [2, 4, 8, 8]}[name]
  assert parts["unet"].config["attention_head_dim"] == heads
  layers = parts["text_encoder"].config["num_hidden_layers"]
  assert layers == {"mvdream_sd15": 3, "mvdream_sd21": 2}[name]
  module = configs.vae_from_config(parts["vae"].config)
  assert isinstance(module, vae.VAE)
  state = {k: t.read() for k, t in parts["vae"].tensors.items()}
  images = jnp.asarray(golden["in.img"])
  variables = golden_weights.fitted(state, module, images)
  mean, log_variance = run(module, "encode", variables, images)
  np.testing.assert_allclose(mean, golden["out.vae_mean"], atol=1e-4)
  np.testing.assert_allclose(log_variance, golden["out.vae_logvar"], atol=1e-4)
  drawn = mean + np.exp(log_variance / 2) * golden["in.vae_noise"]
  scale = parts["vae"].config["scaling_factor"]
  np.testing.assert_allclose(scale * drawn, golden["out.vae_latent"], atol=1e-4)
  faint, _ = run(module, "encode", variables, 1e-3 * images)
  np.testing.assert_allclose(faint, golden["out.vae_mean_tiny"], atol=3e-3)
  latents = jnp.asarray(golden["out.vae_mean"])
  decoded = run(module, "decode", variables, latents)
  np.testing.assert_allclose(decoded, golden["out.vae_dec"], atol=2e-4)


def test_a_described_file_keeps_what_shapes_do_not_tell():
  """Other head counts, norm groups, predictions, and our own blocks."""
  golden = golden_weights.Golden("mvdream_sd21")
  tensors = {k: tensors_lib.in_memory(v) for k, v in golden.tensors().items()}
  text = key_tables.small_text(open_clip=True)
  parts, scheduler = split(tensors | text, head_dim=16)
  changed = {
    "norm_num_groups": 8,
    "attention_head_dim": [1, 2, 4, 4],
    "sample_size": 16,
  }
  unet = component_lib.Component(
    config=parts["unet"].config | changed, tensors=parts["unet"].tensors
  )
  epipolar = component_lib.Component(
    config={"num_levels": 4},
    tensors=named("mid_block.epipolar.norm.weight", "class_embedding.x.bias"),
  )
  parts = parts | {"unet": unet, "epipolar": epipolar}
  scheduler = scheduler | {"prediction_type": "v_prediction"}
  tokens = tokenizer.train_tokenizer(["a red sofa"], 600, length=7)
  header = description.describe(parts, scheduler, tokens=tokens)
  again, schedule = split(single_file.join(parts), header=header)
  assert schedule == scheduler
  assert again.keys() == parts.keys()
  for name, part in parts.items():
    assert again[name].config == part.config
    assert again[name].tensors.keys() == part.tensors.keys()
    for key, tensor in part.tensors.items():
      np.testing.assert_array_equal(
        again[name].tensors[key].read(), tensor.read(), err_msg=key
      )
  read = description.read_tokenizer(header, source="")
  assert read is not None and read.vocab_size == tokens.vocab_size
  np.testing.assert_array_equal(read(["a sofa"]), tokens(["a sofa"]))
  assert description.read_tokenizer({"format": "pt"}, source="") is None


@pytest.mark.parametrize(
  "header",
  [
    "{",
    "[]",
    '{"configs": {}}',
    '{"configs": {"unet": {}}, "scheduler": {}}',
    '{"configs": {"unet": {}, "vae": {}, "text_encoder": {}}, "scheduler": {}}',
    '{"configs": {"unet": 1, "vae": 2, "text_encoder": 3}, "scheduler": {}}',
    # Their names would take hours and all memory.
    '{"configs": {"unet": {}, "vae": {}, "text_encoder": {"hidden_act": "gelu",'
    '"num_hidden_layers": 1000000000}}, "scheduler": {}}',
  ],
)
def test_a_damaged_description_is_one_line(header):
  with pytest.raises(ValueError, match="mine.safetensors.*header") as error:
    split(published("sd15"), "mine.safetensors", header={"mvjax": header})
  assert "\n" not in str(error.value)


@pytest.mark.parametrize(
  "names, kind",
  [
    (["lora_unet_mid_block_attentions_0_proj_in.lora_down.weight"], "a LoRA"),
    (["unet.mid_block.attentions.0.proj_in.lora_A.weight"], "a LoRA"),
    (["down_blocks.0.attn1.processor.to_q_lora.down.weight"], "a LoRA"),
    (["conditioner.embedders.0.x.weight", UNET_KEY], "Stable Diffusion XL"),
    (["model.diffusion_model.joint_blocks.0.x.weight"], "Diffusion 3"),
    (["control_model.input_blocks.0.0.weight"], "a ControlNet"),
    (["spatial_volume.x.weight", UNET_KEY], "SyncDreamer"),
    (["cc_projection.weight", UNET_KEY], "Zero123"),
    (["model_ema.diffusion_modelout2weight", "model_ema.decay"], "EMA-only"),
    (["first_stage_model.encoder.conv_in.weight"], "a VAE alone"),
    (["encoder.conv_in.weight", "decoder.conv_in.weight"], "a VAE alone"),
    (["text_model.final_layer_norm.weight"], "a text encoder alone"),
    (["down_blocks.0.resnets.0.conv1.weight"], "whole model folder"),
    (
      ["layer.3.gamma", "layer.1.gamma"],
      "2 tensors are layer.1.gamma, layer.3",
    ),
    ([], "0 tensors"),
  ],
)
def test_other_kinds_of_files_are_named(names, kind):
  with pytest.raises(ValueError, match="file.ckpt") as error:
    split(named(*names), "file.ckpt")
  assert kind in str(error.value)


@pytest.mark.parametrize(
  "channels, kind", [(9, "inpainting"), (5, "depth"), (8, "image-conditioned")]
)
def test_models_with_more_inputs_are_named(channels, kind):
  array = np.zeros((320, channels, 3, 3), np.float32)
  tensors = published("sd15") | {UNET_KEY: tensors_lib.in_memory(array)}
  with pytest.raises(ValueError, match=f"{kind}.*takes {channels} channels"):
    split(tensors)


@pytest.mark.parametrize(
  "head, part", [("first_stage_model.", "VAE"), ("cond_stage", "text encoder")]
)
def test_a_pruned_part_is_named(head, part):
  tensors = published("sd15")
  rest = {k: v for k, v in tensors.items() if not k.startswith(head)}
  with pytest.raises(ValueError, match=f"holds no {part}"):
    split(rest)


def test_missing_and_unexpected_tensors_are_listed():
  tensors = published("sd15")
  gone = f"{ldm.UNET}middle_block.1.proj_in.weight"
  del tensors[gone]
  tensors |= named("model.diffusion_model.extra", *families.BUFFERS)
  with pytest.raises(ValueError) as error:
    split(tensors)
  assert f"1 missing ({gone})" in str(error.value)
  assert "1 unexpected (model.diffusion_model.extra)" in str(error.value)


def test_a_component_of_another_config_is_not_joined():
  parts, _ = split(published("sd15"))
  config = parts["vae"].config | {"layers_per_block": 3}
  other = component_lib.Component(config=config, tensors=parts["vae"].tensors)
  with pytest.raises(ValueError, match="vae/ is not.*missing"):
    single_file.join(parts | {"vae": other})
  with pytest.raises(ValueError, match="no place for a component safety"):
    single_file.join(parts | {"safety": other})
