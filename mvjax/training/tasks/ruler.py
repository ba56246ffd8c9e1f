"""What validation measures: losses at fixed noise levels, and the views' part.

A multi-view network may reach a low loss and never look at another view. So
its loss is measured twice, with the other views seen and cut off; `gains`
says what seeing them brought:

  loss_t700           all views at time 700, as when a sampler draws them
  loss_t700_cut       the same, no view seeing another
  loss_t700_clean     of one view at time 700 beside nearly clean ones
  gain_t700, share_t700   loss_t700_cut - loss_t700, and its share of the former

Both are one compiled program: times and cuts are data.
"""

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

# Times, as shares of the schedule.
SHARED = (0.1, 0.3, 0.5, 0.7, 0.9)
BESIDE_CLEAN = (0.7, 0.9)
CLEAN = 0.05
CUT = "_cut"


def at_times(
  errors: Callable[[Float[Array, "b v"]], Float[Array, "b v"]],
  *,
  shape: tuple[int, int],
  length: int,
) -> dict[str, Float[Array, ""]]:
  """Losses at the times of `SHARED`, and their mean `loss`.

  Args:
    errors: of every view, from times.
    shape: assets and views.
    length: of the schedule.
  """
  times = {f"loss_t{time}": time for time in _times(SHARED, length)}
  places = jnp.asarray([*times.values()], jnp.float32)
  found = jax.lax.map(lambda t: errors(jnp.full(shape, t)).mean(), places)
  return dict(zip(times, found, strict=True)) | {"loss": found.mean()}


def of_views(
  errors: Callable[
    [Float[Array, "b v"], Bool[Array, "b"]], Float[Array, "b v"]
  ],
  *,
  shape: tuple[int, int],
  length: int,
) -> dict[str, Float[Array, ""]]:
  """Losses with views seen and cut off; `loss` is the mean of shared times.

  Args:
    errors: of every view, from times and from which assets' views are cut off.
    shape: assets and views. With clean views, one view of each asset is noisy
      and counts, another one from asset to asset.
    length: of the schedule.
  """
  assets, views = shape
  everyone = jnp.ones(shape, bool)
  one = jnp.arange(views)[None] == jnp.arange(assets)[:, None] % views
  names, cases = [], []
  for noisy, ending, places in (
    (everyone, "", SHARED),
    (one, "_clean", BESIDE_CLEAN),
  ):
    for time in _times(places, length):
      for cut in (False, True):
        names.append(f"loss_t{time}{ending}{CUT if cut else ''}")
        at = jnp.where(noisy, time, round(CLEAN * length)).astype(jnp.float32)
        cases.append((at, noisy, jnp.full(assets, cut)))

  def measure(case):
    at, counted, cut = case
    return jnp.mean(errors(at, cut), where=counted)

  stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *cases)
  found = dict(zip(names, jax.lax.map(measure, stacked), strict=True))
  shared = [found[f"loss_t{time}"] for time in _times(SHARED, length)]
  return found | {"loss": jnp.stack(shared).mean()}


def gains(losses: Mapping[str, float]) -> dict[str, float]:
  """What seeing the other views took off each loss, and which share of it."""
  found = {}
  for name, cut in losses.items():
    if name.endswith(CUT):
      case = name.removesuffix(CUT)
      gain, place = cut - losses[case], case.removeprefix("loss")
      found |= {f"gain{place}": gain, f"share{place}": gain / cut}
  return found


def _times(shares: tuple[float, ...], length: int) -> list[int]:
  return [round(share * length) for share in shares]
