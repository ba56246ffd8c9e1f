"""Scores and the ways to combine them: guidance, mixing, lambda schedules.

A score is a pure function from a noisy asset to a prediction of its noise and
of its clean sample. Models differ in how one is made and in nothing else, and
what this module does with scores gives scores again, so a sampler sees one.

Mixing adds scores with named coefficients:
  multiview=lambda, image=1-lambda         the mixed score (eq. 2 of the paper);
  multiview=w, image=1, single_view=-w     consistency guidance,
                                           eps_2d + w eps_consis;
  multiview=1+w, single_view=-w            multi-view auto-guidance, which no
                                           flag reaches yet.
`single_view` is the multi-view model with every view cut off from the others,
and eps_consis = eps_multiview - eps_single_view. Along a sampling run the mix
is a heuristic: diffusing a product of densities differs from multiplying the
diffused ones (Du et al. 2023), so the samples are not those of the product.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from mvjax import diffusion

COEFFICIENTS = ("multiview", "image", "single_view")
MODES = {
  "mix": ("multiview", "image"),
  "mv": ("multiview",),
  "2d": ("image",),
  "consistency": COEFFICIENTS,
}
LAMBDA_PRESETS = {
  # The paper's direction: small at high noise, growing.
  "paper": "linear:0.3,0.8",
  # The opposite: the layout from the multi-view model, the texture from 2D.
  "late-2d": "linear:0.9,0.4",
}
_LAMBDA_HELP = (
  f"choose one of {', '.join(LAMBDA_PRESETS)}, or write "
  "'constant:0.5', 'linear:0.3,0.8', 'cosine:0.3,0.8', with places as in "
  "'linear:0=0.3,0.5=0.3,1=0.8' (share of the steps) or "
  "'linear:-4=0.3,4=0.8@log_snr'"
)


class Step(NamedTuple):
  """What a score is told about the moment.

  Attributes:
    level: noise level, scalars.
    weights: coefficient of every score in a mix by its name, scalars.
  """

  level: diffusion.NoiseLevel
  weights: Mapping[str, Array]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Conditioning:
  """What one model is told about the assets; all of it is data.

  Attributes:
    text: token features [b, n, d], or [b, v, n, d] with a text per view.
    negative_text: the same for what guidance leads away from, or None for no
      guidance.
    cameras: any tree of the model's own that depends on the cameras only, or
      None. Computed before sampling and shared by both branches of guidance.
    fine_noise: white noise on a finer grid, for a score behind
      `models.bridge`, otherwise None.
    guidance_scale: scalar; 1 is the plain conditional score.
    guidance_rescale: scalar in [0, 1], see `classifier_free_guidance`.
  """

  # Not array types: jax rebuilds pytrees with leaves that are not arrays.
  text: Any
  negative_text: Any = None
  cameras: Any = None
  fine_noise: Any = None
  guidance_scale: Any = 1.0
  guidance_rescale: Any = 0.0


# (params, x [b, v, h, w, c], step, conditioning) -> prediction. Parameters and
# conditioning of a mix are mappings from score name to those of each score.
Score = Callable[[Any, Array, Step, Any], diffusion.Prediction]


def classifier_free_guidance(score: Score) -> Score:
  """A score led from the negative text towards the text (Ho & Salimans 2022).

  Both branches run as one batch that shares the cameras. `guidance_rescale`
  brings the standard deviation of the guided x0 that share of the way back to
  the conditional one's (Lin et al. 2024), per asset over all of its views so
  that they keep one common exposure. A conditioning without negative text
  gives the plain score.
  """

  def guided(params, x, step, conditioning):
    if conditioning.negative_text is None:
      return score(params, x, step, conditioning)

    def branch(text):
      return score(
        params, x, step, dataclasses.replace(conditioning, text=text)
      )

    both = jax.vmap(branch)(
      jnp.stack([conditioning.negative_text, conditioning.text])
    )
    scale = conditioning.guidance_scale
    eps, x0 = (away + scale * (to - away) for away, to in both)
    spread, wanted = _spread(x0), _spread(both.x0[1])
    flat = spread == 0
    ratio = jnp.where(flat, 1.0, wanted / jnp.where(flat, 1.0, spread))
    change = conditioning.guidance_rescale * (ratio - 1.0) * x0
    level = step.level
    return diffusion.Prediction(
      eps=eps - level.alpha / level.sigma * change, x0=x0 + change
    )

  return guided


def mix(scores: Mapping[str, Score]) -> Score:
  """The sum of named scores with the coefficients of `step.weights`.

  A coefficient is data, yet a score whose coefficient is 0 is not evaluated:
  it costs nothing, and a coefficient of 1 beside it gives the other score
  exactly. The sum predicts x only where the coefficients add up to 1.

  Args:
    scores: by names out of `COEFFICIENTS`.

  Raises:
    ValueError: a name is unknown, or (at trace time) the names differ from
      those of the weights.
  """
  if unknown := set(scores) - set(COEFFICIENTS):
    raise ValueError(
      f"scores {sorted(unknown)}: choose from {', '.join(COEFFICIENTS)}"
    )

  def mixed(params, x, step, conditioning):
    if set(step.weights) != set(scores):
      raise ValueError(
        f"weights for {sorted(step.weights)}, but the mix has scores for "
        f"{sorted(scores)}; give one weight per score"
      )
    x = x.astype(jnp.float32)
    total = diffusion.Prediction(eps=jnp.zeros_like(x), x0=jnp.zeros_like(x))
    for name in scores:
      total = _accumulate(
        total,
        scores[name],
        step.weights[name],
        (params[name], x, step, conditioning[name]),
      )
    return total

  return mixed


def weights(
  mode: str, lambdas: Float[np.ndarray, "s"]
) -> dict[str, Float[np.ndarray, "s"]]:
  """Coefficients along a run, of the scores that a mode needs.

  Args:
    mode: 'mix', 'mv' or '2d' (one model alone), or 'consistency', where the
      lambdas are the weights w of eps_consis.
    lambdas: one per step, from `lambda_schedule`.

  Raises:
    ValueError: unknown mode, or a lambda outside [0, 1] for 'mix'.
  """
  if mode not in MODES:
    raise ValueError(f"score={mode!r}: choose one of {', '.join(MODES)}")
  outside = lambdas[(lambdas < 0) | (lambdas > 1)]
  if mode == "mix" and outside.size:
    raise ValueError(
      f"lambda_schedule reaches {outside[0]:g}: score='mix' needs [0, 1]"
    )
  ones = np.ones_like(lambdas)
  return {
    "mix": {"multiview": lambdas, "image": ones - lambdas},
    "mv": {"multiview": ones},
    "2d": {"image": ones},
    "consistency": {
      "multiview": lambdas,
      "image": ones,
      "single_view": -lambdas,
    },
  }[mode]


def lambda_schedule(
  spec: str,
  *,
  fractions: Float[np.ndarray, "s"],
  log_snrs: Float[np.ndarray, "s"],
) -> Float[np.ndarray, "s"]:
  """Evaluates a lambda schedule at every step of a run.

  A spec is 'INTERPOLATION:VALUES' with values 'v, v, ..' spread evenly over
  the run or 'place=v, place=v, ..'; '@log_snr' at the end puts the places on
  the log-SNR axis instead of the share of the steps. 'linear' and 'cosine'
  pass through the values, 'constant' holds each from its place on, and before
  the first and after the last place nothing changes.

  Args:
    spec: a name of `LAMBDA_PRESETS`, or a spec.
    fractions: share of the steps that are done, from 0 to 1.
    log_snrs: of each step's level; may be infinite.

  Raises:
    ValueError: the spec cannot be read; it is named with what is allowed.
  """
  interpolation, places, values, axis = _parse(spec)
  at = {"fraction": fractions, "log_snr": log_snrs}[axis].astype(np.float64)
  segment = np.searchsorted(places, at, side="right") - 1
  if interpolation == "constant":
    result = values[np.maximum(segment, 0)]
  else:
    at = np.clip(at, places[0], places[-1])
    segment = np.clip(segment, 0, max(len(places) - 2, 0))
    after = np.minimum(segment + 1, len(places) - 1)
    width = np.where(after > segment, places[after] - places[segment], 1.0)
    share = (at - places[segment]) / width
    if interpolation == "cosine":
      share = 0.5 - 0.5 * np.cos(np.pi * share)
    result = (1 - share) * values[segment] + share * values[after]
  return result.astype(np.float32)


def _parse(spec: str) -> tuple[str, np.ndarray, np.ndarray, str]:
  """Interpolation, places, values and axis of a lambda schedule."""
  text, _, axis = LAMBDA_PRESETS.get(spec, spec).partition("@")
  interpolation, _, rest = text.partition(":")
  try:
    knots = [
      [float(number) for number in knot.split("=")] for knot in rest.split(",")
    ]
    if all(len(knot) == 1 for knot in knots) and not axis:
      places = np.linspace(0.0, 1.0, len(knots))
      if interpolation == "constant":
        places = np.arange(len(knots)) / len(knots)
      knots = [
        [place, knot[0]] for place, knot in zip(places, knots, strict=True)
      ]
    places, values = np.array(knots, dtype=np.float64).T
  except ValueError as error:
    raise ValueError(f"lambda_schedule={spec!r}: {_LAMBDA_HELP}") from error
  if (
    interpolation not in ("constant", "linear", "cosine")
    or axis not in ("", "fraction", "log_snr")
    or not np.isfinite(knots).all()
    or (np.diff(places) <= 0).any()
  ):
    raise ValueError(f"lambda_schedule={spec!r}: {_LAMBDA_HELP}")
  return interpolation, places, values, axis or "fraction"


def _accumulate(total, score, weight, arguments):
  """Adds weight * score(*arguments); at weight 0 the score is not evaluated."""

  def add(total, arguments):
    return jax.tree.map(
      lambda sum_, term: sum_ + weight * term, total, score(*arguments)
    )

  return jax.lax.cond(weight == 0, lambda t, _: t, add, total, arguments)


def _spread(x):
  """Standard deviation over everything but the batch, as [b, 1, 1, ..]."""
  return jnp.std(x, axis=tuple(range(1, x.ndim)), keepdims=True)
