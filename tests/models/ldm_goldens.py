"""Goldens of joint-attention models, whose weights have LDM names."""

import functools
from typing import Any

import golden_weights
import jax
import jax.numpy as jnp
import numpy as np
import tiny_models

from mvjax import diffusion, tokenizer
from mvjax.models import configs
from mvjax.nn import text_encoder, vae
from mvjax.weights import ldm, ldm_config, names, tensors

# What the published models' scheduler config says.
SCHEDULE = diffusion.NoiseSchedule(
  timestep_spacing="ldm", steps_offset=1, set_alpha_to_one=False
)


class LdmGolden(golden_weights.Golden):
  """A golden with its UNet, made from the names and shapes of its weights."""

  def __init__(self, name: str):
    super().__init__(name)
    shapes = {
      key: tensors.in_memory(np.broadcast_to(np.float32(0.0), shape))
      for key, shape in self.config["keys"].items()
    }
    self.unet_config = ldm_config.unet_config(
      shapes, sample_size=self["in.x"].shape[-2], head_dim=16
    )
    self.unet = configs.unet_from_config(self.unet_config)

  def __getitem__(self, name: str) -> np.ndarray:
    """An array; maps are channels last."""
    array = self.arrays[name]
    maps = array.ndim > 3 and array.shape[-1] == array.shape[-2]
    return np.moveaxis(array, -3, -1) if maps else array

  def bits(self, name: str) -> np.ndarray:
    """A square mask out of packed bits."""
    array = self.arrays[name]
    return np.unpackbits(array, axis=-1, count=array.shape[-2]).astype(bool)

  @functools.cached_property
  def _tensors(self) -> dict[str, np.ndarray]:
    return self.tensors()

  @functools.cached_property
  def apply(self) -> Any:
    """The compiled UNet; one program for all inputs of one structure."""
    return jax.jit(self.unet.apply)

  @functools.cached_property
  def unet_params(self) -> Any:
    """The UNet's parameters."""
    return self._params(self._tensors, ldm.unet_table(self.unet_config))

  @functools.cached_property
  def tiny_unet_params(self) -> Any:
    """Parameters with which the epsilons of norms show."""
    return self._params(self.tiny_tensors(), ldm.unet_table(self.unet_config))

  def model(self, kind: Any, **fields: Any) -> Any:
    """A model of a class; only its UNet is that of the golden."""
    return kind(
      name=self.config["set"],
      unet=self.unet,
      vae=vae.VAE((8, 16), 1, norm_num_groups=4),
      text_encoder=text_encoder.TextEncoder(),
      tokenizer=_tokenizer(),
      schedule=SCHEDULE,
      scaling_factor=0.18215,
      latent_size=self["in.x"].shape[-2],
      params={"unet": self.unet_params},
      **fields,
    )

  def _params(self, arrays: dict[str, np.ndarray], table: Any) -> Any:
    named = {new: arrays[old] for old, new in table.items()}
    return jax.tree.map(jnp.asarray, names.from_torch(named))


def own_views(mask: Any, *, num_views: int) -> Any:
  """A mask of the same shape that hides the other views."""
  view = jnp.arange(mask.shape[-1]) * num_views // mask.shape[-1]
  return jnp.broadcast_to(view[:, None] == view[None, :], mask.shape)


def assert_close(got: Any, expected: np.ndarray, *, share: float) -> None:
  """Within a share of the expectation's root mean square."""
  limit = share * np.sqrt(np.mean(np.square(expected)))
  np.testing.assert_allclose(got, expected, rtol=0, atol=limit)


@functools.cache
def _tokenizer() -> tokenizer.Tokenizer:
  return tokenizer.train_tokenizer(tiny_models.WORDS, 600, length=12)
