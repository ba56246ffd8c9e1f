"""Small random Stable Diffusions in PyTorch, and numbers to and from it."""

import math
import pathlib

import diffusers
import numpy as np
import torch
import transformers

from mvjax import tokenizer

NANO = pathlib.Path(__file__).parents[2] / "checkpoints" / "nano-2d"
WORDS = ["a red leather sofa", "a blue wooden chair", "front side back view"]
LENGTH = 16
WIDTH = 24
# Where the two generations of Stable Diffusion differ.
UNETS = {
  "sd1": {"attention_head_dim": 4, "use_linear_projection": False},
  "sd2": {"attention_head_dim": (2, 4), "use_linear_projection": True},
}
ACTIVATIONS = {"sd1": "quick_gelu", "sd2": "gelu"}
PADDING = {"sd1": tokenizer.END, "sd2": "!"}
SCHEDULES = {
  "sd1": {"prediction_type": "epsilon"},
  "sd2": {
    "prediction_type": "v_prediction",
    "rescale_betas_zero_snr": True,
    "timestep_spacing": "trailing",
  },
}


def unet(style, **changes):
  """A UNet with two levels, attention on the finer one."""
  return randomised(
    diffusers.UNet2DConditionModel(
      **{
        "sample_size": 8,
        "block_out_channels": (32, 64),
        "layers_per_block": 1,
        "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
        "cross_attention_dim": WIDTH,
        "norm_num_groups": 8,
        **UNETS[style],
        **changes,
      }
    )
  )


def vae():
  """A VAE with two levels."""
  return randomised(
    diffusers.AutoencoderKL(
      block_out_channels=(16, 32),
      down_block_types=("DownEncoderBlock2D",) * 2,
      up_block_types=("UpDecoderBlock2D",) * 2,
      layers_per_block=1,
      norm_num_groups=8,
      sample_size=16,
    )
  )


def text_encoder(style, vocab_size):
  """A CLIP text encoder of three layers."""
  config = transformers.CLIPTextConfig(
    vocab_size=vocab_size,
    hidden_size=WIDTH,
    intermediate_size=2 * WIDTH,
    num_hidden_layers=3,
    num_attention_heads=4,
    max_position_embeddings=LENGTH,
    hidden_act=ACTIVATIONS[style],
    eos_token_id=vocab_size - 1,
  )
  return randomised(transformers.CLIPTextModel(config))


def pipeline(style, folder):
  """All of it; `folder` is for the tokenizer's files."""
  tokens = tokenizer.train_tokenizer(
    WORDS, 600, length=LENGTH, pad_token=PADDING[style]
  )
  tokens.save(folder)
  scheduler = diffusers.DDIMScheduler(
    beta_start=0.00085,
    beta_end=0.012,
    beta_schedule="scaled_linear",
    clip_sample=False,
    set_alpha_to_one=False,
    steps_offset=1,
    **SCHEDULES[style],
  )
  return diffusers.StableDiffusionPipeline(
    unet=unet(style),
    vae=vae(),
    text_encoder=text_encoder(style, tokens.vocab_size),
    tokenizer=transformers.CLIPTokenizer.from_pretrained(folder),
    scheduler=scheduler,
    safety_checker=None,
    feature_extractor=None,
    requires_safety_checker=False,
  )


def randomised(module, seed=0):
  """Draws every weight: some start at zero and would hide errors."""
  generator = torch.Generator().manual_seed(seed)
  with torch.no_grad():
    for name, weight in module.named_parameters():
      noise = torch.randn(weight.shape, generator=generator)
      if weight.ndim < 2:
        weight.copy_(0.1 * noise + float(name.endswith("weight")))
      else:
        weight.copy_(noise / math.sqrt(weight[0].numel()))
  return module.eval()


def draw(*shape, seed=0):
  """Standard normal float32 numbers."""
  return np.random.default_rng(seed).standard_normal(shape, np.float32)


def to_torch(array):
  """A tensor, with maps channels first."""
  tensor = torch.from_numpy(np.array(array))
  return torch.movedim(tensor, -1, 1) if tensor.ndim == 4 else tensor


def from_torch(tensor):
  """An array, with maps channels last."""
  array = tensor.detach().numpy()
  return np.moveaxis(array, 1, -1) if array.ndim == 4 else array
