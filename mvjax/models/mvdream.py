"""MVDream: Stable Diffusion whose self-attention runs over all views.

Its checkpoints (sd-v2.1-base-4view and sd-v1.5-4view) are a UNet of the usual
layers plus a camera embedding. Without cameras it is a 2D model of 256-pixel
images; it was trained so too, but not on single views with a camera. Prompts
of its training end in ", 3d asset", its views are 4 orthogonal ones.
"""

import dataclasses

import einops
import jax.numpy as jnp
from jaxtyping import Array, Float

from mvjax import geometry
from mvjax.models import stable_diffusion
from mvjax.nn import joint_views

# What a camera is told as, see `camera_numbers`.
NUMBERS = 16


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class MVDream(stable_diffusion.FlaxStableDiffusion):
  """All views of an object at once, told apart by their cameras' poses."""

  def __post_init__(self):
    if self.unet.camera_dim != NUMBERS:
      raise ValueError(
        f"{self.name}: projection_class_embeddings_input_dim="
        f"{self.unet.camera_dim}; a camera of MVDream has {NUMBERS} numbers"
      )

  def camera_conditioning(
    self, camera: geometry.Camera, height: int, width: int
  ) -> joint_views.JointViews:
    """The poses of cameras [b, v]."""
    del height, width
    return joint_views.JointViews(camera_numbers=camera_numbers(camera))


def camera_numbers(camera: geometry.Camera) -> Float[Array, "*b v 16"]:
  """Camera to world, row by row, with the camera moved to the unit sphere.

  The camera's axes are those of OpenGL. The world is Blender's and ours; what
  MVDream calls azimuth is larger by 90 degrees. Neither the distance nor the
  field of view, which were random in training, is told.
  """
  pose = geometry.to_opengl(jnp.asarray(camera.camera_to_world))
  position = pose[..., :3, 3:]
  distance = jnp.sqrt(jnp.sum(position**2, -2, keepdims=True))
  rows = jnp.concatenate([pose[..., :3, :3], position / distance], -1)
  pose = jnp.concatenate([rows, pose[..., 3:, :]], -2)
  return einops.rearrange(pose, "... i j -> ... (i j)")
