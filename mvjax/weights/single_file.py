"""Stable Diffusion, MVDream and SPAD in one file of the original layout.

`split` takes such a file apart into the components of a diffusers folder,
and `join` puts them together again. The families are told apart by names and
shapes; every tensor is either used or known to be of no use (`unused`).

Weights do not say everything. What a network predicts is assumed, and so are
head widths and norm groups (see `ldm_config`). Files that we write therefore
carry the configs in their header (`description`), and any model fits in one.
"""

import pathlib
import reprlib
import warnings
from collections.abc import Iterable, Mapping
from typing import Any

from mvjax.weights import (
  clip_keys,
  description,
  families,
  ldm,
  ldm_config,
  names,
)
from mvjax.weights import component as component_lib
from mvjax.weights import tensors as tensors_lib

# Our own blocks, which no other program knows.
EPIPOLAR = "epipolar."

# Whether a file keeps a moving average shows in the first tensor of the UNet.
_AVERAGE_MARK = ldm.average_name(f"{ldm.UNET}input_blocks.0.0.weight")
# In the names of the published SD 2.x files.
_PREDICTS_V = ("v2-1_768", "768-v")
_PREDICTS_NOISE = ("v2-1_512", "512-base")

Component = component_lib.Component
# Name in the file to the names that take equal shares of its rows.
Table = Mapping[str, tuple[str, ...]]


def split(
  tensors: tensors_lib.Tensors,
  *,
  source: str,
  header: Mapping[str, str] | None = None,
  prediction_type: str | None = None,
  head_dim: int | None = None,
) -> tuple[dict[str, Component], dict[str, Any]]:
  """The components in a single file, and its schedule.

  SPAD is read from its moving average, as its own code runs it; of other
  families the plain weights are read.

  Args:
    tensors: of the file.
    source: the file, for messages; `v2-1_768` or `768-v` in its name says
      that an SD 2.x network predicts v, as nothing else in the file does.
    header: the text entries of a safetensors file.
    prediction_type: what the network predicts, where that is known.
    head_dim: see `ldm_config.unet_config`.

  Returns:
    Components by name, still in the file, and scheduler_config.json.

  Raises:
    ValueError: another family (naming it), or missing or unexpected tensors.
  """
  described = description.read(header, source=source)
  if described is None:
    families.refuse_others(tensors, source=source)
    configs, scheduler = _infer(
      tensors,
      source=source,
      prediction_type=prediction_type,
      head_dim=head_dim,
    )
  else:
    configs, scheduler = described["configs"], described["scheduler"]
  _check_layers(configs, len(tensors), source=source)
  try:
    tables = {
      name: _table(name, config, added=_epipolar_names(tensors))
      for name, config in configs.items()
    }
  except (LookupError, TypeError) as error:
    raise ValueError(
      f"{source}: a config in the header is damaged ({error!r})"
    ) from error
  skipped = unused(configs)
  if "ray_channels" in configs["unet"] and _AVERAGE_MARK in tensors:
    plain = tables["unet"]
    tables["unet"] = {_averaged(old): new for old, new in plain.items()}
    skipped = (skipped | plain.keys()) - tables["unet"].keys()
  families.check_names(
    tensors.keys() - skipped,
    [old for table in tables.values() for old in table],
    source=source,
  )
  return {
    name: Component(
      config=configs[name], tensors=_renamed(tensors, table, component=name)
    )
    for name, table in tables.items()
  }, scheduler


def original_unet(
  unet: Component, *, source: str, sample_size: int = 32
) -> Component:
  """A folder's UNet that kept its names of the original layout.

  MVDream's conversions to folders have such a `MultiViewUNetModel`.

  Raises:
    ValueError: missing or unexpected tensors.
  """
  tensors = {f"{ldm.UNET}{name}": t for name, t in unet.tensors.items()}
  head_dim = unet.config.get("num_head_channels", 0)
  if type(head_dim) is not int:
    raise ValueError(
      f"{source}config.json: num_head_channels={reprlib.repr(head_dim)}: must "
      "be a whole number"
    )
  try:
    config = ldm_config.unet_config(
      tensors,
      sample_size=sample_size,
      head_dim=head_dim if head_dim > 0 else None,
    )
  except ValueError as error:
    raise ValueError(f"{source}: {error}") from error
  table = ldm.unet_table(config)
  families.check_names(tensors.keys(), table.keys(), source=source)
  return Component(
    config=config, tensors={new: tensors[old] for old, new in table.items()}
  )


def join(components: Mapping[str, Component]) -> dict[str, Any]:
  """The tensors of a single file with these components; inverse of `split`.

  Raises:
    ValueError: a component does not fit its config.
  """
  joined: dict[str, tensors_lib.Tensor] = {}
  for name, part in components.items():
    tensors = names.modern(part.tensors)
    table = _table(name, part.config, added=tensors)
    wanted = [new for shares in table.values() for new in shares]
    families.check_names(tensors, wanted, source=f"{name}/")
    for old, shares in table.items():
      parts = [tensors[new] for new in shares]
      whole = parts[0] if len(parts) == 1 else tensors_lib.concatenated(parts)
      if name == "vae" and shares[0] in ldm.POINTWISE:
        whole = tensors_lib.reshaped(whole, (*whole.shape, 1, 1))
      joined[old] = whole
  return joined


def unused(configs: Mapping[str, Mapping[str, Any]]) -> frozenset[str]:
  """Names that a whole file may hold and that no network reads."""
  moving = {
    ldm.average_name(old)
    for old in ldm.unet_table(configs["unet"])
    if old.startswith(families.AVERAGED)
  }
  return frozenset(
    {
      *families.BUFFERS,
      *clip_keys.UNUSED,
      *clip_keys.unused_layer(configs["text_encoder"]),
      *moving,
    }
  )


def scheduler_config(prediction_type: str) -> dict[str, Any]:
  """The schedule all families share: scheduler_config.json of SD's DDIM."""
  return {
    "_class_name": "DDIMScheduler",
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "clip_sample": False,
    "num_train_timesteps": 1000,
    "prediction_type": prediction_type,
    "set_alpha_to_one": False,
    "steps_offset": 1,
    "timestep_spacing": "leading",
  }


def _check_layers(
  configs: Mapping[str, Any], most: int, *, source: str
) -> None:
  """Refuses more layers than there are tensors, before they are named."""
  for name, config in configs.items():
    for key in ("layers_per_block", "num_hidden_layers"):
      count = config.get(key, 1) if isinstance(config, dict) else None
      if type(count) is not int or not 0 <= count <= most:
        raise ValueError(
          f"{source}: the config of {name[:40]} in the header is damaged "
          f"({key}={reprlib.repr(count)}): write the file again"
        )


def _infer(
  tensors: tensors_lib.Tensors,
  *,
  source: str,
  prediction_type: str | None,
  head_dim: int | None,
) -> tuple[dict[str, dict[str, Any]], dict[str, Any]]:
  """Configs and schedule of a file that does not state them."""
  try:
    side = 32
    network = ldm_config.unet_config(
      tensors, sample_size=side, head_dim=head_dim
    )
    if "class_embed_type" not in network:
      prediction_type = prediction_type or _guess_prediction(
        source, is_sd2=network["use_linear_projection"]
      )
      side = 96 if prediction_type == "v_prediction" else 64
      network["sample_size"] = side
    if "ray_channels" in network:
      network["mask_resize"] = "released"
    configs = {
      "unet": network,
      "vae": ldm_config.vae_config(tensors, sample_size=8 * side),
      "text_encoder": clip_keys.text_config(tensors),
    }
  except ValueError as error:
    raise ValueError(f"{source}: {error}") from error
  return configs, scheduler_config(prediction_type or "epsilon")


def _guess_prediction(source: str, *, is_sd2: bool) -> str:
  """What the network of a Stable Diffusion file predicts.

  Only the 768-pixel models of SD 2.x predict v. Their tensors have the names
  and shapes of the 512-pixel ones, which predict noise.
  """
  if not is_sd2:
    return "epsilon"
  name = pathlib.PurePath(source).name
  if any(mark in name for mark in _PREDICTS_V):
    return "v_prediction"
  if not any(mark in name for mark in _PREDICTS_NOISE):
    warnings.warn(
      f"{source}: an SD 2.x file does not say what it predicts; taken as "
      f"noise. If it predicts v, put {_PREDICTS_V[0]!r} in its name",
      stacklevel=3,
    )
  return "epsilon"


def _table(
  component: str, config: Mapping[str, Any], *, added: Iterable[str]
) -> Table:
  """Names in the file to those in a component; `added` are the epipolar's."""
  if component == "text_encoder":
    return clip_keys.text_table(config)
  if component == "epipolar":
    return {f"{EPIPOLAR}{name}": (name,) for name in added}
  tables = {"unet": ldm.unet_table, "vae": ldm.vae_table}
  if component not in tables:
    raise ValueError(f"a single file has no place for a component {component}")
  return {old: (new,) for old, new in tables[component](config).items()}


def _epipolar_names(tensors: tensors_lib.Tensors) -> list[str]:
  return [
    name.removeprefix(EPIPOLAR) for name in tensors if name.startswith(EPIPOLAR)
  ]


def _averaged(name: str) -> str:
  """Where the moving average of a tensor is, if it has one."""
  averaged = name.startswith(families.AVERAGED)
  return ldm.average_name(name) if averaged else name


def _renamed(
  tensors: tensors_lib.Tensors, table: Table, *, component: str
) -> dict[str, tensors_lib.Tensor]:
  """The tensors of a component, under its names and with its shapes."""
  renamed: dict[str, tensors_lib.Tensor] = {}
  for old, shares in table.items():
    whole = tensors[old]
    if component == "vae" and shares[0] in ldm.POINTWISE:
      whole = tensors_lib.reshaped(whole, whole.shape[:2])
    if len(shares) == 1:
      renamed[shares[0]] = whole
    else:
      parts = tensors_lib.row_shares(whole, len(shares))
      renamed |= dict(zip(shares, parts, strict=True))
  return renamed
