"""Model folders in miniature: 16-pixel images, two levels, random weights."""

import functools
import pathlib

import jax
import jax.numpy as jnp
import numpy as np

from mvjax import diffusion, tokenizer
from mvjax.models import epipolar_mv, stable_diffusion
from mvjax.nn import text_encoder, unet, vae
from mvjax.training import components

WORDS = ["a red leather sofa", "a blue wooden chair", "front side back view"]
LATENT_SIZE = 8
IMAGE_SIZE = 16
# Points on a ray, by place of an epipolar block.
PLACES = {"mid_block": 2, "up_blocks_1": 3}


@functools.cache
def folders(home: pathlib.Path) -> dict[str, str]:
  """A 2D and a multi-view model of one latent space, made once."""
  paths = {name: home / name for name in ("image", "multiview")}
  write(paths["image"], seed=1)
  write(paths["multiview"], seed=2, multiview=True, prediction="v_prediction")
  return {name: str(path) for name, path in paths.items()}


def write(
  home,
  *,
  seed,
  multiview=False,
  prediction="epsilon",
  places=PLACES,
  linear=False,
  pad_token=tokenizer.END,
):
  """Writes a folder with the writer that training uses."""
  autoencoder = vae.VAE(
    block_out_channels=(8, 16),
    layers_per_block=1,
    latent_channels=4,
    norm_num_groups=4,
  )
  tokens = tokenizer.train_tokenizer(WORDS, 600, length=12, pad_token=pad_token)
  encoder = text_encoder.TextEncoder(
    vocab_size=tokens.vocab_size,
    max_length=12,
    hidden_size=16,
    intermediate_size=32,
    num_layers=2,
    num_heads=2,
  )
  network = unet.UNet(
    block_out_channels=(16, 32),
    layers_per_block=1,
    num_heads=(2, 2),
    attention_levels=(False, False),  # in the middle only: quick to trace
    cross_attention_dim=16,
    norm_num_groups=4,
    use_linear_projection=linear,
  )
  unet_shapes = stable_diffusion.abstract_params(
    network, *stable_diffusion.unet_inputs(network)
  )
  if multiview:
    config = epipolar_mv.component_config(
      places,
      block_out_channels=network.block_out_channels,
      width=16,
      head_dim=8,
    )
    network = network.clone(epipolar=epipolar_mv.block_fields(config))
    unet_shapes = epipolar_mv.abstract_params(network, config)
  image, ids = jnp.zeros((1, 8, 8, 3)), jnp.zeros((1, 12), jnp.int32)
  shapes = {
    "unet": unet_shapes,
    "vae": stable_diffusion.abstract_params(autoencoder, image),
    "text_encoder": stable_diffusion.abstract_params(encoder, ids),
  }
  seeds = {"unet": seed, "vae": 0, "text_encoder": seed}
  params = {
    name: random_params(tree, seeds[name]) for name, tree in shapes.items()
  }
  fields = dict(
    name=str(home),
    unet=network,
    vae=autoencoder,
    text_encoder=encoder,
    tokenizer=tokens,
    schedule=diffusion.NoiseSchedule(prediction_type=prediction),
    scaling_factor=0.5,
    latent_size=LATENT_SIZE,
    params=None,
  )
  model = (
    epipolar_mv.EpipolarMultiview(**fields, epipolar=config)
    if multiview
    else stable_diffusion.FlaxStableDiffusion(**fields)
  )
  components.write_model(home, model, params=params, dtype=np.float32)


def random_params(shapes, seed):
  """Weights of ordinary size everywhere, also where training starts at 0."""
  rng = np.random.default_rng(seed)

  def draw(path, leaf):
    name, noise = path[-1].key, rng.normal(size=leaf.shape)
    if name == "scale":
      return (1 + 0.1 * noise).astype(np.float32)
    if len(leaf.shape) < 2:
      return (0.1 * noise).astype(np.float32)
    fan_in = int(np.prod(leaf.shape[:-1]))
    return (noise / np.sqrt(fan_in)).astype(np.float32)

  return jax.tree_util.tree_map_with_path(draw, shapes)
