"""What a user asks the sample program for, checked before any work starts."""

import dataclasses
import math
import os
import pathlib
import tempfile
import typing
from collections.abc import Mapping
from typing import Any

import ml_collections
import numpy as np

from data_pipeline import pictures
from mvjax import diffusion, geometry, scores
from mvjax.models import diffusers_flax
from mvjax.views import viewpoints
from mvjax.weights import hub

DTYPES = ("float32", "bfloat16", "float16")
PROVIDERS = ("mvjax", "diffusers")
RESOLUTIONS = ("native", "bridge")
# What a cameras file replaces.
_ORBIT = ("views", "elevation", "azimuth", "distance", "field_of_view")
# Of a prompts file, and of its lines.
_MOST_BYTES, _MOST_PROMPTS = 2**24, 10**5
# Stands for the prompt in a template.
_PLACE = "{prompt}"
# Of a view that a published model draws, in pixels.
_SMALLEST_SIZE = 128
# Far more than there are noise levels to train on.
_MOST_STEPS = 10_000


@dataclasses.dataclass(frozen=True, kw_only=True)
class Request:
  """One run of the sample program: every prompt with every seed.

  Attributes:
    prompts: texts, without view words.
    out: folder that gets one sample folder per prompt and seed.
    multiview: the multi-view model: a folder, a file or a hub id
      (`weights.checkpoint`).
    image: the 2D model, likewise.
    multiview_lora: LoRA file merged into the multi-view model, or None.
    image_lora: the same for the 2D model.
    lora_scale: how much of them is merged.
    seeds: of the first noise; a sample depends on its own seed only.
    views: number of cameras, evenly spread over the circle.
    elevation: degrees above the equator.
    azimuth: degrees of the first view; 0 sees the front.
    distance: of the cameras from the origin; the object fits the unit ball.
    field_of_view: full opening angle in degrees.
    metric_cameras: whether the multi-view model knows lens and distance of its
      cameras. If not, those written beside the views are nominal, and what
      needs them searches for them (`reconstruction.cameras`).
    cameras: file that replaces the orbit (`viewpoints.read`), or None.
    score: 'mix' (lambda MV + (1 - lambda) 2D), 'mv', '2d', or 'consistency'
      (2D + lambda (MV - MV with the views cut off from each other)).
    lambda_schedule: preset or spec of `scores.lambda_schedule`.
    steps: denoising steps.
    eta: 0 is deterministic DDIM, 1 ancestral noise.
    multiview_guidance: classifier-free guidance inside the multi-view model.
    image_guidance: the same inside the 2D model.
    guidance_rescale: share by which guided scores get back the spread of
      unguided ones, in [0, 1].
    negative_prompt: what guidance leads away from.
    view_words: append ", front view" (side, back) to the 2D model's text.
    multiview_template: what the multi-view model is told, around '{prompt}'.
    image_template: the same for the 2D model.
    image_provider: who computes the 2D score: 'mvjax', or 'diffusers' for the
      Flax classes of diffusers 0.39.
    image_resolution: 'native' asks the 2D model about the multi-view model's
      latents as they are, 'bridge' at its own size (`models.bridge`).
    image_size: side of a view in pixels; None is what the first model was
      trained on.
    timestep_spacing: replaces that of the first model's schedule
      (`sampling.timesteps`), or None.
    batch_size: samples denoised together by a device.
    dtype: type of weights and computation, one of `DTYPES`.
  """

  prompts: tuple[str, ...]
  out: str
  multiview: str
  image: str
  multiview_lora: str | None = None
  image_lora: str | None = None
  lora_scale: float = 1.0
  seeds: tuple[int, ...] = (0,)
  views: int = 4
  elevation: float = 15.0
  azimuth: float = 0.0
  distance: float = 3.0
  field_of_view: float = 40.0
  metric_cameras: bool = True
  cameras: str | None = None
  score: str = "mix"
  lambda_schedule: str = "paper"
  steps: int = 50
  eta: float = 0.0
  multiview_guidance: float = 7.5
  image_guidance: float = 7.5
  guidance_rescale: float = 0.0
  negative_prompt: str = ""
  view_words: bool = True
  multiview_template: str = _PLACE
  image_template: str = _PLACE
  image_provider: str = "mvjax"
  image_resolution: str = "native"
  image_size: int | None = None
  timestep_spacing: str | None = None
  batch_size: int = 4
  dtype: str = "float32"

  def lora(self, name: str) -> str | None:
    """The LoRA file of the model of this name."""
    return {"multiview": self.multiview_lora, "image": self.image_lora}[name]

  def text(self, name: str, prompt: str) -> str:
    """What the model of this name is told about a prompt."""
    templates = {
      "multiview": self.multiview_template,
      "image": self.image_template,
    }
    return templates[name].replace(_PLACE, prompt)

  @property
  def sources(self) -> dict[str, str]:
    """Where every model that this request runs lies, by name.

    The multi-view model gives two of the scores; it comes first.
    """
    return {
      name: getattr(self, name)
      for name in scores.MODES[self.score]
      if name != "single_view"
    }


def fields_of(config: ml_collections.ConfigDict) -> dict[str, Any]:
  """Fields of a request in a config of `sample`: for `make_request`, or a row.

  How the 2D score is computed has a section of its own.
  """
  image_model = {f"image_{k}": v for k, v in config.image_model.items()}
  return {**config.sample, **image_model}


def every_field() -> ml_collections.ConfigDict:
  """Each field of a request with its default, but for what a run is asked.

  A config that holds them takes a flag for each of them.
  """
  config = ml_collections.ConfigDict()
  for field in dataclasses.fields(Request):
    if field.name in ("prompts", "out", "seeds"):
      continue
    default = "" if field.default is dataclasses.MISSING else field.default
    if default is None:
      (kind,) = _kinds(field.name, but=type(None))
      default = ml_collections.config_dict.placeholder(kind)
    config[field.name] = default
  return config


def make_request(
  defaults: ml_collections.ConfigDict | Mapping[str, Any],
  flags: Mapping[str, Any],
) -> Request:
  """Joins a config's `sample` section with command-line flags.

  Args:
    defaults: values of `Request` fields, such as the model folders.
    flags: `prompt` (a text) or `prompts` (a file, one text a line), and any
      `Request` field; None means not given.

  Raises:
    ValueError: unknown field, a file that cannot be read, no or two sources
      of prompts, a cameras file and an orbit.
  """
  given = {key: value for key, value in flags.items() if value is not None}
  sources = [key for key in ("prompt", "prompts") if key in given]
  if len(sources) != 1:
    raise ValueError(
      f"{' and '.join(sources) or 'neither'} given: pass either "
      '--prompt="a text" or --prompts=FILE'
    )
  orbit = [f"{name}={given[name]}" for name in _ORBIT if name in given]
  if orbit and "cameras" in given:
    raise ValueError(
      f"{', '.join(orbit)}: cameras={given['cameras']} has all cameras; leave "
      "out one or the other"
    )
  text = given.pop("prompt", None)
  path = given.pop("prompts", None)
  values = {**defaults, **given}
  values["prompts"] = (text,) if path is None else read_prompts(path)
  values["seeds"] = tuple(values.get("seeds", (0,)))
  known = {field.name for field in dataclasses.fields(Request)}
  if unknown := values.keys() - known:
    raise ValueError(
      f"sample.{min(unknown)}: no such setting; there are {sorted(known)}"
    )
  for name in ("multiview", "image"):
    values.setdefault(name, "")
  for name, value in values.items():
    kinds = _kinds(name)
    # Whole numbers are numbers; what is true or false is none.
    if type(value) is int and float in kinds:
      values[name] = float(value)
    elif type(value) not in kinds:
      expected = " or ".join(kind.__name__ for kind in kinds)
      raise ValueError(f"{name}={value!r}: must be of type {expected}")
  return Request(**values)


def _kinds(name: str, *, but: type | None = None) -> list[type]:
  """The types that a field may have."""
  hint = typing.get_type_hints(Request)[name]
  found = [hint] if typing.get_origin(hint) is tuple else typing.get_args(hint)
  found = [typing.get_origin(kind) or kind for kind in found or [hint]]
  return [kind for kind in found if kind is not but]


def read_prompts(path: str | os.PathLike) -> tuple[str, ...]:
  """Different lines of a text file, in order, without empty and # lines.

  Raises:
    ValueError: it cannot be read, or has no prompt or too many.
  """
  path = pathlib.Path(path)
  try:
    # A pipe or a device might have no end.
    if path.exists() and not path.is_file():
      raise OSError("is no file")
    size = path.stat().st_size
    if size > _MOST_BYTES:
      raise OSError(f"has {size} bytes, more than {_MOST_BYTES}")
    lines = path.read_text(encoding="utf-8").splitlines()
  except (OSError, UnicodeDecodeError) as error:
    raise ValueError(f"prompts: cannot read {path}: {error}") from error
  stripped = [line.strip() for line in lines]
  prompts = dict.fromkeys(
    line for line in stripped if line and not line.startswith("#")
  )
  if not prompts:
    raise ValueError(f"prompts: {path} has no text; write one prompt a line")
  if len(prompts) > _MOST_PROMPTS:
    raise ValueError(
      f"prompts: {path} has {len(prompts)}; at most {_MOST_PROMPTS} are drawn "
      "in one run, split the file"
    )
  return tuple(prompts)


def validate(request: Request) -> None:
  """Checks everything that can be known without loading a model.

  The out folder is made if it is missing.

  Raises:
    ValueError: one line with the field, its value and what is allowed.
  """
  _check_texts(request)
  _check_numbers(request)
  _check_choices(request)
  ramp = np.linspace(0.0, 1.0, request.steps, dtype=np.float32)
  lambdas = scores.lambda_schedule(
    request.lambda_schedule, fractions=ramp, log_snrs=10 * ramp - 5
  )
  scores.weights(request.score, lambdas)
  _check_size(request)
  if "image" in request.sources and request.image_provider == "diffusers":
    diffusers_flax.check_installed()
  if not request.out:
    raise ValueError("out: no folder is given; pass --out=FOLDER")
  for name, folder in request.sources.items():
    if not folder:
      raise ValueError(
        f"{name}: no model is given; pass --{name}=CHECKPOINT, a folder, a "
        "file or a hub id"
      )
    path = pathlib.Path(folder)
    found = path.is_file() or (path / "unet" / "config.json").is_file()
    if not found and (path.exists() or not hub.is_id(folder)):
      raise ValueError(
        f"{name}={folder}: no model there (no file, and no folder with "
        f"unet/config.json); pass --{name}=CHECKPOINT, a folder, a file or a "
        "hub id"
      )
  _check_writable(pathlib.Path(request.out))


def cameras(request: Request) -> geometry.Camera:
  """The request's cameras [v] as numpy arrays.

  Raises:
    ValueError: a cameras file that cannot be read, or holds no cameras.
  """
  if request.cameras is not None:
    return viewpoints.read(request.cameras)
  return viewpoints.orbit(
    request.views,
    azimuth=request.azimuth,
    elevation=request.elevation,
    distance=request.distance,
    field_of_view=request.field_of_view,
  )


def _check_size(request: Request) -> None:
  count = len(cameras(request).intrinsics)
  # Without a size it is the model's, which is not smaller.
  side = request.image_size or _SMALLEST_SIZE
  together = min(request.batch_size, len(request.prompts) * len(request.seeds))
  pictures.check_pixels(
    together * count * side**2,
    f"views={count} of image_size={side} in a batch of {together}",
  )


def _check_texts(request: Request) -> None:
  if not request.prompts:
    raise ValueError("prompts: there is none; pass at least one text")
  for prompt in request.prompts:
    if not prompt.strip():
      raise ValueError(f"prompt={prompt!r}: is empty; describe an object")

  for name in ("multiview_template", "image_template"):
    template = getattr(request, name)
    if template.count(_PLACE) != 1:
      raise ValueError(f"{name}={template!r}: must have {_PLACE} in it, once")


def _check_choices(request: Request) -> None:
  for name, choices in (
    ("dtype", DTYPES),
    ("image_provider", PROVIDERS),
    ("image_resolution", RESOLUTIONS),
    ("timestep_spacing", (None, *diffusion.TIMESTEP_SPACINGS)),
  ):
    value = getattr(request, name)
    if value not in choices:
      named = ", ".join(choice for choice in choices if choice)
      raise ValueError(f"{name}={value!r}: choose one of {named}")


def _check_numbers(request: Request) -> None:
  """Ranges of the numeric fields, in the order of the command's help."""
  rules = {
    "views": (
      1 <= request.views <= pictures.MOST_VIEWS,
      f"1 to {pictures.MOST_VIEWS}",
    ),
    "elevation": (-90 <= request.elevation <= 90, "-90 to 90 degrees"),
    "azimuth": (math.isfinite(request.azimuth), "a number of degrees"),
    "distance": (0 < request.distance < math.inf, "above 0"),
    "field_of_view": (0 < request.field_of_view < 180, "0 to 180 degrees"),
    "image_size": (
      request.image_size is None or request.image_size >= 8,
      "at least 8 pixels",
    ),
    "lora_scale": (math.isfinite(request.lora_scale), "a number"),
    "steps": (1 <= request.steps <= _MOST_STEPS, f"1 to {_MOST_STEPS}"),
    "eta": (0 <= request.eta <= 1, "0 to 1"),
    "multiview_guidance": (
      0 <= request.multiview_guidance < math.inf,
      "0 or more; 1 is no guidance",
    ),
    "image_guidance": (
      0 <= request.image_guidance < math.inf,
      "0 or more; 1 is no guidance",
    ),
    "guidance_rescale": (0 <= request.guidance_rescale <= 1, "0 to 1"),
    "batch_size": (request.batch_size >= 1, "at least 1"),
    "seeds": (
      bool(request.seeds) and all(0 <= s < 2**32 for s in request.seeds),
      "one or more whole numbers from 0 to 2^32 - 1",
    ),
  }
  for name, (holds, allowed) in rules.items():
    if not holds:
      raise ValueError(f"{name}={getattr(request, name)}: must be {allowed}")


def _check_writable(out: pathlib.Path) -> None:
  try:
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=out):
      pass
  except OSError as error:
    raise ValueError(
      f"out={out}: cannot write there ({error.strerror}); choose another folder"
    ) from error
