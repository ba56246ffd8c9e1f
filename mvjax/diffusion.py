"""Noise schedules and the equivalent ways to state a denoising prediction.

A noisy sample is x = alpha x0 + sigma eps with alpha^2 + sigma^2 = 1, so a
noise level is a point on the quarter circle and its angle atan2(sigma, alpha)
grows with noise. Networks are asked at a time t, an index into the table they
were trained with; time is a float, since two models with different tables meet
at equal log-SNR = 2 log(alpha / sigma), between the entries of one of them.

Tables are computed in float64 and stored in float32. Everything here is
float32 whatever the network's compute type. Names of settings are those of a
diffusers `scheduler_config.json`.
"""

import dataclasses
import functools
import reprlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float

PREDICTION_TYPES = ("epsilon", "v_prediction", "sample")
BETA_SCHEDULES = ("linear", "scaled_linear")
# Tables are in memory, and none has more than a thousandth of this.
_MOST_STEPS = 1_000_000
TIMESTEP_SPACINGS = ("leading", "trailing", "linspace", "ldm")


class NoiseLevel(NamedTuple):
  """Signal and noise amplitudes, alpha^2 + sigma^2 = 1."""

  alpha: Float[Array, "*b"]
  sigma: Float[Array, "*b"]

  @property
  def log_snr(self) -> Float[Array, "*b"]:
    """2 log(alpha / sigma); -inf for pure noise, inf for none."""
    return 2.0 * (jnp.log(self.alpha) - jnp.log(self.sigma))


class Prediction(NamedTuple):
  """What a model believes of x: its noise and its clean sample.

  Both are linear in the network's output, so mixing one mixes the other.
  """

  eps: Float[Array, "*b"]
  x0: Float[Array, "*b"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class NoiseSchedule:
  """A model's noise table and how it is sampled; hashable.

  Attributes:
    num_train_timesteps: table length T.
    beta_start: first beta.
    beta_end: last beta.
    beta_schedule: 'linear', or 'scaled_linear' in the square root of beta.
    trained_betas: the betas themselves, in place of the three above.
    rescale_betas_zero_snr: shift and scale the table to end in pure noise.
    prediction_type: what the network returns: 'epsilon', 'v_prediction' or
      'sample' (the clean sample).
    timestep_spacing: how a sampler picks its times, see `sampling.timesteps`.
    steps_offset: added to 'leading' and 'ldm' times.
    set_alpha_to_one: whether sampling ends without noise, or at t = 0.

  Raises:
    ValueError: a setting has a value that is not allowed, or an epsilon model
      is asked at pure noise, where its output says nothing about x0.
  """

  num_train_timesteps: int = 1000
  beta_start: float = 0.00085
  beta_end: float = 0.012
  beta_schedule: str = "scaled_linear"
  trained_betas: tuple[float, ...] | None = None
  rescale_betas_zero_snr: bool = False
  prediction_type: str = "epsilon"
  timestep_spacing: str = "leading"
  steps_offset: int = 0
  set_alpha_to_one: bool = True

  def __post_init__(self):
    for name, allowed in (
      ("beta_schedule", BETA_SCHEDULES),
      ("prediction_type", PREDICTION_TYPES),
      ("timestep_spacing", TIMESTEP_SPACINGS),
    ):
      value = getattr(self, name)
      if value not in allowed:
        raise ValueError(
          f"{name}={value!r}: choose one of {', '.join(allowed)}"
        )
    betas = self.betas
    if len(betas) < 2 or not ((betas > 0) & (betas <= 1)).all():
      raise ValueError(
        f"betas from {betas.min():g} to {betas.max():g}, {len(betas)} of them: "
        "at least two are needed, each in (0, 1]"
      )
    if self.alphas_cumprod[-1] == 0 and self.prediction_type == "epsilon":
      raise ValueError(
        "prediction_type='epsilon' with a table that ends in pure noise: x0 is "
        "lost there; use 'v_prediction' or 'sample'"
      )

  @classmethod
  def from_config(cls, config: Mapping[str, Any]) -> "NoiseSchedule":
    """Reads a diffusers scheduler config; what is absent has its defaults.

    Keys that do not concern the table or the time grid are ignored.

    Raises:
      ValueError: clipping or thresholding of x0 is asked for, which latents
        do not have, or a setting has a value that is not allowed.
    """
    for name in ("clip_sample", "thresholding"):
      if config.get(name, False):
        raise ValueError(f"{name}=True: only false is supported for latents")
    # The defaults of the format, which are not those of Stable Diffusion.
    values = {
      "beta_start": 0.0001,
      "beta_end": 0.02,
      "beta_schedule": "linear",
    }
    kinds = {field.name: field.type for field in dataclasses.fields(cls)}
    values |= {k: v for k, v in config.items() if k in kinds}
    betas = values.pop("trained_betas", None)
    if betas is not None:
      betas = tuple(map(float, betas))
      values["num_train_timesteps"] = len(betas)
    for name, value in values.items():
      kind = kinds[name]
      good = type(value) is kind or (kind is float and type(value) is int)
      if not good or (kind is int and not 0 <= value <= _MOST_STEPS):
        raise ValueError(
          f"{name}={reprlib.repr(value)}: must be of type {kind.__name__}"
          + f", 0 to {_MOST_STEPS}" * (kind is int)
        )
    return cls(**values, trained_betas=betas)

  def to_config(self) -> dict[str, Any]:
    """A scheduler config that diffusers reads as its DDIM scheduler."""
    return {
      "_class_name": "DDIMScheduler",
      "clip_sample": False,
      **dataclasses.asdict(self),
    }

  @functools.cached_property
  def betas(self) -> Float[np.ndarray, "t"]:
    """Noise added at each step, float64."""
    if self.trained_betas is not None:
      betas = np.asarray(self.trained_betas, dtype=np.float64)
    else:
      power = {"linear": 1, "scaled_linear": 2}[self.beta_schedule]
      ends = self.beta_start ** (1 / power), self.beta_end ** (1 / power)
      betas = np.linspace(*ends, self.num_train_timesteps) ** power
    return _zero_terminal_snr(betas) if self.rescale_betas_zero_snr else betas

  @functools.cached_property
  def alphas_cumprod(self) -> Float[np.ndarray, "t"]:
    """Share of the signal's variance that is left at each t, float32."""
    return np.cumprod(1.0 - self.betas).astype(np.float32)

  @functools.cached_property
  def _table(self) -> tuple[np.ndarray, ...]:
    """alpha, sigma, angle and the angle to the next entry, float32 [T]."""
    signal = np.cumprod(1.0 - self.betas)
    alpha, sigma = np.sqrt(signal), np.sqrt(1.0 - signal)
    angle = np.arctan2(sigma, alpha)
    step = np.append(np.diff(angle), 0.0)
    return tuple(x.astype(np.float32) for x in (alpha, sigma, angle, step))

  @property
  def final_level(self) -> NoiseLevel:
    """Where sampling ends: no noise, or the table's first level."""
    if self.set_alpha_to_one:
      return NoiseLevel(alpha=jnp.float32(1.0), sigma=jnp.float32(0.0))
    return self.level(jnp.float32(0.0))

  def level(self, t: Float[ArrayLike, "*b"]) -> NoiseLevel:
    """Noise level at time t, clamped to [0, T - 1].

    Between two entries the angle is interpolated linearly; at an entry the
    level is exactly the table's.
    """
    alpha, sigma, _, step = map(jnp.asarray, self._table)
    t = jnp.clip(jnp.asarray(t, jnp.float32), 0.0, len(alpha) - 1.0)
    index = jnp.floor(t).astype(jnp.int32)
    turn = (t - index) * step[index]
    cos, sin = jnp.cos(turn), jnp.sin(turn)
    return NoiseLevel(
      alpha=alpha[index] * cos - sigma[index] * sin,
      sigma=sigma[index] * cos + alpha[index] * sin,
    )

  def time(self, level: NoiseLevel) -> Float[Array, "*b"]:
    """Time at which this schedule has the given level (inverse of `level`).

    Levels outside the table get its nearest end, 0 or T - 1.
    """
    angles = jnp.asarray(self._table[2])
    angle = jnp.arctan2(level.sigma, level.alpha)
    return jnp.interp(angle, angles, jnp.arange(len(angles), dtype=jnp.float32))


def predict(
  output: Float[Array, "*x"],
  x: Float[Array, "*x"],
  *,
  level: NoiseLevel,
  prediction_type: str,
) -> Prediction:
  """What a network's output says about noise and clean sample, in float32.

  Finite for every level of a legal schedule: for a v-prediction (Salimans &
  Ho 2022, v = alpha eps - sigma x0) also at pure noise and at no noise.

  Args:
    output: of the network, in the meaning of `prediction_type`.
    x: the noisy input.
    level: scalars, or arrays whose axes are the first axes of x.
    prediction_type: one of `PREDICTION_TYPES`.
  """
  output, x = output.astype(jnp.float32), x.astype(jnp.float32)
  alpha, sigma = _leading(level, x.ndim)
  if prediction_type == "epsilon":
    return Prediction(eps=output, x0=(x - sigma * output) / alpha)
  if prediction_type == "sample":
    return Prediction(eps=(x - alpha * output) / sigma, x0=output)
  if prediction_type == "v_prediction":
    return Prediction(
      eps=alpha * output + sigma * x, x0=alpha * x - sigma * output
    )
  raise ValueError(
    f"prediction_type={prediction_type!r}: choose one of "
    f"{', '.join(PREDICTION_TYPES)}"
  )


def add_noise(
  x0: Float[Array, "*x"], noise: Float[Array, "*x"], *, level: NoiseLevel
) -> Float[Array, "*x"]:
  """The noisy sample alpha x0 + sigma noise, at a level as in `predict`."""
  alpha, sigma = _leading(level, x0.ndim)
  return alpha * x0 + sigma * noise


def velocity(
  x0: Float[Array, "*x"], noise: Float[Array, "*x"], *, level: NoiseLevel
) -> Float[Array, "*x"]:
  """The v target alpha noise - sigma x0, the derivative of x by the angle."""
  alpha, sigma = _leading(level, x0.ndim)
  return alpha * noise - sigma * x0


def network_target(
  x0: Float[Array, "*x"],
  noise: Float[Array, "*x"],
  *,
  level: NoiseLevel,
  prediction_type: str,
) -> Float[Array, "*x"]:
  """What a network of this prediction type is trained to return."""
  return {
    "epsilon": noise,
    "v_prediction": velocity(x0, noise, level=level),
    "sample": x0,
  }[prediction_type]


def min_snr_weight(
  level: NoiseLevel, gamma: float, *, prediction_type: str
) -> Float[Array, "*b"]:
  """Weight of a network's squared error: min(SNR, gamma) for that of x0.

  Hang et al. 2023. The errors of eps and v at a level are those of x0 times
  SNR and SNR + 1, which the weight is divided by; in this form it is finite
  from pure noise to none.

  Args:
    level: noise levels.
    gamma: positive; 5 in the paper.
    prediction_type: what the network returns, one of `PREDICTION_TYPES`.
  """
  signal, noise = jnp.square(level.alpha), jnp.square(level.sigma)
  tiny = jnp.finfo(jnp.float32).tiny
  unit = {"epsilon": signal, "v_prediction": 1.0, "sample": noise}
  return jnp.minimum(signal, gamma * noise) / jnp.maximum(
    unit[prediction_type], tiny
  )


def _leading(level: NoiseLevel, ndim: int) -> tuple[Array, Array]:
  """Amplitudes with trailing unit axes, so that they meet x from the left."""
  alpha, sigma = (
    jnp.reshape(a, jnp.shape(a) + (1,) * (ndim - jnp.ndim(a))) for a in level
  )
  return alpha, sigma


def _zero_terminal_snr(betas: np.ndarray) -> np.ndarray:
  """Shifts and scales sqrt(alphas_cumprod) to end at 0 (Lin et al. 2024)."""
  signal = np.sqrt(np.cumprod(1.0 - betas))
  first, last = signal[0], signal[-1]
  signal = ((signal - last) * first / (first - last)) ** 2
  return 1.0 - signal / np.append(1.0, signal[:-1])
