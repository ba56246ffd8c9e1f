"""`launch.py sample`: every prompt with every seed, each in its own folder."""

import dataclasses
import hashlib
import json
import pathlib
import platform
from collections.abc import Iterator, Sequence
from importlib import metadata
from typing import Any

import jax
import ml_collections
import numpy as np
import tqdm

import mvjax
from mvjax import geometry, memory
from mvjax.generation import joint, samples
from mvjax.generation import request as requests
from mvjax.models import loading
from mvjax.parallel import mesh as meshes
from mvjax.parallel import processes

# Fields of a request that do not decide what a sample looks like: where
# things lie, how work is divided, and what `cameras_sha256` stands for.
_FREE_FIELDS = frozenset(
  "prompts out seeds batch_size multiview image".split()
  + "multiview_lora image_lora".split()
  + "cameras views elevation azimuth distance field_of_view".split()
  + "metric_cameras".split()
)
_PACKAGES = ("jax", "jaxlib", "flax", "numpy")


def generate(
  config: ml_collections.ConfigDict, request: requests.Request
) -> None:
  """Writes all samples that are not there yet, see `samples`.

  Batches are padded to one size, so the sampler compiles once; a sample does
  not depend on the others of its batch. The process's devices share a batch,
  and processes share the samples without waiting for each other.

  Args:
    config: recorded with every sample.
    request: what to make.

  Raises:
    ValueError: one line about a wrong request, or about a finished sample
      that was made with other settings. Nothing has been compiled then.
    FileNotFoundError: a model folder is not complete.
  """
  processes.check_alike("request", repr(request))
  absent = frozenset(find_missing(request))
  out, camera = pathlib.Path(request.out), requests.cameras(request)
  wanted = processes.share(_wanted(request))
  missing = [sample for sample in wanted if sample in absent]
  if missing:
    mesh = meshes.for_samples(len(wanted), len(camera.intrinsics))
    program = joint.build(request, camera, mesh=mesh)
    settings = decisive_settings(request, camera)
    record = _record(config, program=program, settings=settings)
    groups = mesh.shape["data"]
    # Where devices share views, they share those of one sample at a time.
    most = request.batch_size if mesh.shape["view"] == 1 else 1
    size = min(most, -(-len(wanted) // groups)) * groups
    with tqdm.tqdm(total=len(missing), unit="sample") as progress:
      for batch in _batches(missing, size):
        memory.reset_peak()
        padded = [*batch, *[batch[-1]] * (size - len(batch))]
        images, seconds = joint.draw(
          program,
          [sample.prompt for sample in padded],
          seeds=[sample.seed for sample in padded],
        )
        timing = {
          "seconds_of_batch": seconds,
          "batch_size": size,
          "peak_memory_bytes": memory.peak_bytes(),
        }
        for sample, views in zip(batch, images, strict=False):
          samples.write(
            out, sample, images=views, camera=camera, record=record | timing
          )
          progress.update()
  processes.meet("samples are written")
  done = len(wanted) - len(missing)
  print(f"{len(wanted)} samples in {out} ({done} were there before)")


def find_missing(request: requests.Request) -> list[samples.Sample]:
  """The samples of a request that are not there yet; touches no device.

  Raises:
    ValueError: as `generate`.
  """
  requests.validate(request)
  settings = decisive_settings(request, requests.cameras(request))
  return [
    sample
    for sample in _wanted(request)
    if not samples.is_finished(
      pathlib.Path(request.out), sample, settings=settings
    )
  ]


def _wanted(request: requests.Request) -> list[samples.Sample]:
  return [
    samples.Sample(prompt=prompt, seed=seed)
    for prompt in dict.fromkeys(request.prompts)
    for seed in dict.fromkeys(request.seeds)
  ]


def decisive_settings(
  request: requests.Request, camera: geometry.Camera
) -> dict[str, Any]:
  """All that decides a sample besides its prompt and seed, as JSON values."""
  poses = [np.asarray(x, "<f4").tobytes() for x in jax.tree.leaves(camera)]
  chosen = {
    field.name: getattr(request, field.name)
    for field in dataclasses.fields(request)
    if field.name not in _FREE_FIELDS
  }
  return chosen | {
    "cameras_sha256": hashlib.sha256(b"".join(poses)).hexdigest()[:16],
    "weights_sha256": {
      name: loading.fingerprint(source)
      for name, source in request.sources.items()
    },
    "lora_sha256": {
      name: loading.fingerprint(file)
      for name in request.sources
      if (file := request.lora(name)) is not None
    },
  }


def _batches(
  items: Sequence[samples.Sample], size: int
) -> Iterator[Sequence[samples.Sample]]:
  for start in range(0, len(items), size):
    yield items[start : start + size]


def _record(
  config: ml_collections.ConfigDict,
  *,
  program: joint.Program,
  settings: dict[str, Any],
) -> dict[str, Any]:
  """What sample.json holds for every sample of a run."""
  request = program.request
  weights = {
    name: [round(float(x), 6) for x in values]
    for name, values in program.steps.weights.items()
  }
  orbit = ("views", "elevation", "azimuth", "distance", "field_of_view")
  return {
    "settings": settings,
    "score_weights": weights,
    "cameras": request.cameras
    or {name: getattr(request, name) for name in orbit},
    "metric_cameras": request.metric_cameras,
    "models": request.sources,
    "config": json.loads(config.to_json_best_effort()),
    "versions": {
      "mvjax": mvjax.__version__,
      "python": platform.python_version(),
      **{name: metadata.version(name) for name in _PACKAGES},
    },
    "device": jax.devices()[0].device_kind,
  }
