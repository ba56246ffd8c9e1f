"""LoRA files: our merged weights are those that diffusers fuses."""

import diffusers
import numpy as np
import peft
import pytest
import safetensors.torch
import torch
import torch_models
from diffusers.utils import convert_state_dict_to_kohya

from mvjax.weights import checkpoint, lora, names

RANK, ALPHA, SCALE = 4, 6.0, 0.7
# Attention, feed-forward, and convolutions of both sizes.
TARGETS = {
  "unet": ["to_q", "to_v", "to_out.0", "net.0.proj", "proj_in", "conv1"],
  "text_encoder": ["q_proj", "out_proj", "fc1"],
}


@pytest.fixture(scope="module", params=list(torch_models.UNETS))
def case(request, tmp_path_factory):
  """A base model's folder, and the folder of a LoRA that diffusers wrote."""
  home = tmp_path_factory.mktemp("lora")
  pipeline = torch_models.pipeline(request.param, home / "tokens")
  pipeline.save_pretrained(home / "base")
  layers, metadata = {}, {}
  for part, targets in TARGETS.items():
    config = peft.LoraConfig(
      r=RANK, lora_alpha=ALPHA, target_modules=targets, lora_bias=False
    )
    network = getattr(pipeline, part)
    network.add_adapter(config)
    torch_models.randomised(network)
    state = peft.utils.get_peft_model_state_dict(network)
    layers[f"{part}_lora_layers"] = state
    metadata[f"{part}_lora_adapter_metadata"] = config.to_dict()
  diffusers.StableDiffusionPipeline.save_lora_weights(
    home / "peft", **layers, **metadata
  )
  return home / "base", home / "peft"


def fused(base, file):
  """Their weights by component."""
  pipeline = diffusers.StableDiffusionPipeline.from_pretrained(
    base, dtype=torch.float32
  )
  pipeline.load_lora_weights(file.parent, weight_name=file.name)
  pipeline.fuse_lora(lora_scale=SCALE)
  pipeline.unload_lora_weights()
  return {part: getattr(pipeline, part).state_dict() for part in TARGETS}


def check(base, file):
  """Compares all weights, and says how many the file changes."""
  opened = checkpoint.open_checkpoint(base)
  ours = lora.with_lora(opened, file, SCALE).components
  changed = dict.fromkeys(TARGETS, 0)
  for part, state in fused(base, file).items():
    original = names.modern(opened.components[part].tensors)
    tensors = names.modern(ours[part].tensors)
    assert len(state) == len(tensors)
    for key, want in names.modern(state).items():
      got = np.asarray(tensors[key].read())
      np.testing.assert_allclose(got, want.numpy(), atol=1e-5, err_msg=key)
      changed[part] += not np.array_equal(got, original[key].read())
  return changed


def test_layout_of_diffusers(case):
  base, folder = case
  (file,) = folder.iterdir()
  assert min(check(base, file).values()) >= 9


@pytest.mark.parametrize("text", ["lora_te_text_model_", "lora_te1_"])
def test_layout_of_kohya(case, text, tmp_path):
  """With the text encoder's name of kohya's code, and that of diffusers'."""
  base, folder = case
  (file,) = folder.iterdir()
  state = safetensors.torch.load_file(file)
  kohya = {
    key.replace("lora_te1_", text): value
    for key, value in convert_state_dict_to_kohya(state).items()
  }
  kohya |= {key: torch.tensor(ALPHA) for key in kohya if key.endswith(".alpha")}
  assert all(key.startswith(("lora_unet_", text)) for key in kohya)
  path = tmp_path / "kohya.safetensors"
  safetensors.torch.save_file(kohya, path)
  assert min(check(base, path).values()) >= 9
