"""Which kind of file this is: what is refused by name, and what is no weight.

A file of another kind fails anyway, on its names; these errors say why.
"""

from collections.abc import Collection, Iterable

from mvjax.weights import clip_keys, ldm, shapes
from mvjax.weights import tensors as tensors_lib

# What has a moving average in files that keep one, and how that is named.
AVERAGED = "model."
AVERAGE = "model_ema."

# No weights: the noise schedule, the training code's counters and losses.
BUFFERS = (
  "alphas_cumprod",
  "alphas_cumprod_prev",
  "betas",
  "log_one_minus_alphas_cumprod",
  "logvar",
  "lvlb_weights",
  f"{AVERAGE}decay",
  f"{AVERAGE}num_updates",
  "posterior_log_variance_clipped",
  "posterior_mean_coef1",
  "posterior_mean_coef2",
  "posterior_variance",
  "scale_factor",
  "sqrt_alphas_cumprod",
  "sqrt_one_minus_alphas_cumprod",
  "sqrt_recip_alphas_cumprod",
  "sqrt_recipm1_alphas_cumprod",
)

# Parts of names that only one kind of file has.
_MARKS = {
  ".lora_down.": "a LoRA, which changes a base model: load that, with --lora",
  ".lora_A.": "a LoRA, which changes a base model: load that, with --lora",
  ".lora.down.": "a LoRA, which changes a base model: load that, with --lora",
  "_lora.down.": "a LoRA, which changes a base model: load that, with --lora",
  "conditioner.embedders.": "Stable Diffusion XL, which has other latents",
  ".joint_blocks.": "Stable Diffusion 3, which is another network",
  "double_blocks.": "Flux, which is another network",
  "control_model.": "a ControlNet, which only steers a base model",
  "zero_convs.": "a ControlNet, which only steers a base model",
  "label_emb.": "an unCLIP or XL model, which takes more than text",
  "spatial_volume.": "SyncDreamer, which takes an image",
  "cc_projection.weight": "Zero123, which takes an image",
  "string_to_param": "a textual inversion, which only adds words",
  "emb_params": "a textual inversion, which only adds words",
}
# What else a file without a UNet may be, by how its names begin.
_BEGINNINGS = {
  AVERAGE: "only a moving average (an EMA-only file); get the plain weights, "
  "or the file with both",
  ldm.VAE: "a VAE alone, not a whole model",
  "encoder.": "a VAE alone, not a whole model",
  "text_model.": "a text encoder alone, not a whole model",
  "down_blocks.": "a UNet in diffusers' names; give the whole model folder",
  "input_blocks.": "a UNet alone, not a whole model",
}
# What a model consists of beside its UNet.
_PARTS = {
  "VAE": (ldm.VAE,),
  "text encoder": (clip_keys.CLIP, clip_keys.OPEN_CLIP),
}
# Channels beside the latents at the UNet's input.
_INPUTS = {
  1: "a depth-to-image model",
  3: "an upscaler",
  4: "an image-conditioned model (InstructPix2Pix, image variations)",
  5: "an inpainting model",
}
_TOLD = 4


def marked_kind(tensors: tensors_lib.Tensors) -> str | None:
  """The kind that parts of the names give away, if it is none of ours."""
  for mark, kind in _MARKS.items():
    if any(mark in name for name in tensors):
      return kind
  return None


def refuse_others(tensors: tensors_lib.Tensors, *, source: str) -> None:
  """Raises ValueError, naming the kind, unless this may be a model we know."""
  kind = marked_kind(tensors)
  if kind is not None:
    raise ValueError(f"{source} looks like {kind}")
  if not any(name.startswith(ldm.UNET) for name in tensors):
    for beginning, kind in _BEGINNINGS.items():
      if any(name.startswith(beginning) for name in tensors):
        raise ValueError(f"{source} looks like {kind}")
    raise ValueError(
      f"{source} holds no UNet of latent diffusion ({ldm.UNET}...): its "
      f"{len(tensors)} tensors are {_listed(tensors)}"
    )
  for part, beginnings in _PARTS.items():
    if not any(name.startswith(beginnings) for name in tensors):
      raise ValueError(
        f"{source} holds no {part} ({beginnings[0]}...): get the whole model, "
        "not a pruned part of it"
      )
  taken = shapes.shape(tensors, f"{ldm.UNET}input_blocks.0.0.weight", 4)[1]
  latent = shapes.shape(tensors, f"{ldm.UNET}out.2.weight", 4)[0]
  if taken != latent:
    kind = _INPUTS.get(taken - latent, "a model with inputs of its own")
    raise ValueError(
      f"{source} looks like {kind}: its UNet takes {taken} channels, not the "
      f"{latent} of the latents"
    )


def check_names(
  found: Collection[str], wanted: Collection[str], *, source: str
) -> None:
  """Raises ValueError, listing the first few, unless the names are equal."""
  missing = set(wanted) - set(found)
  unexpected = set(found) - set(wanted)
  told = [
    f"{len(some)} {what} ({_listed(some)})"
    for what, some in (("missing", missing), ("unexpected", unexpected))
    if some
  ]
  if told:
    raise ValueError(
      f"{source} is not the model it looks like: {'; '.join(told)}"
    )


def _listed(some: Iterable[str]) -> str:
  ordered = sorted(some)
  return ", ".join(ordered[:_TOLD]) + (", ..." if ordered[_TOLD:] else "")
