"""Where training numbers go: JSON lines, TensorBoard and the terminal."""

import contextlib
import dataclasses
import datetime
import json
import math
import pathlib
import secrets
import time
from collections.abc import Iterator, Mapping
from typing import Any

import einops
import jax
import numpy as np
import tensorboardX
from jaxtyping import UInt8
from PIL import Image

from mvjax import atomic, memory
from mvjax.parallel import processes


class NonFiniteError(ValueError):
  """Training produced NaN or infinity; the message names step and metric."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Work:
  """What steps do; work of several steps adds up.

  Attributes:
    examples: In the batches.
    images: In the batches.
    flops: Of matrix products and convolutions on one device, without what is
      computed again in the backward pass; 0 where nobody counts.
  """

  examples: int = 0
  images: int = 0
  flops: float = 0.0

  def __add__(self, other: "Work") -> "Work":
    return Work(
      examples=self.examples + other.examples,
      images=self.images + other.images,
      flops=self.flops + other.flops,
    )

  def rates(
    self, seconds: float, *, peak_flops: float | None
  ) -> dict[str, float]:
    """Metrics of work that takes so long.

    Args:
      seconds: of all of it.
      peak_flops: FLOP/s of a device, or None; see `parallel.peaks`.
    """
    found = {
      "examples_per_second": self.examples / seconds,
      "images_per_second": self.images / seconds,
    }
    if self.flops and peak_flops:
      found["mfu"] = self.flops / seconds / peak_flops
    return found | {"peak_memory_bytes": float(memory.peak_bytes())}


class Writer:
  """Writes means over `log_every` steps, and sample images.

  `push` keeps the newest metrics on the device and downloads the ones before,
  so that logging never waits for the step that has just been dispatched. Of
  several processes the first one writes; all of them check.
  """

  def __init__(
    self,
    workdir: pathlib.Path,
    *,
    steps: int,
    log_every: int,
    first_step: int = 0,
    peak_flops: float | None = None,
    wandb_project: str = "",
    config: Mapping[str, Any] | None = None,
  ):
    """Opens the files, without what is going to be written again.

    Args:
      workdir: Of the run.
      steps: Of the whole run.
      log_every: Steps between lines.
      first_step: Where the process begins. A killed one has written about
        later steps, which come again, and perhaps half a line.
      peak_flops: FLOP/s of a device, or None.
      wandb_project: '' is none.
      config: For Weights & Biases.
    """
    self._workdir = workdir
    self._steps, self._log_every = steps, log_every
    self._peak_flops = peak_flops
    self._work = Work()
    self._writes = processes.is_first()
    self._pending: tuple[int, Mapping[str, Any], Work] | None = None
    self._window: list[dict[str, float]] = []
    self._since = time.monotonic()
    self._boards: list[Any] = []
    if self._writes:
      path = workdir / "metrics.jsonl"
      _drop_later(path, first_step)
      self._lines = path.open("a", encoding="utf-8")
      self._boards.append(
        tensorboardX.SummaryWriter(
          str(workdir / "tensorboard"), purge_step=first_step + 1
        )
      )
      if wandb_project:
        self._boards.append(_Wandb(wandb_project, workdir, config or {}))

  def __enter__(self) -> "Writer":
    return self

  def __exit__(self, *exception) -> None:
    if self._writes:
      self._lines.close()
    for board in self._boards:
      board.close()

  def push(self, step: int, metrics: Mapping[str, Any], *, work: Work) -> None:
    """Takes the metrics of `step` (not downloaded yet) and what it did."""
    self.flush()
    self._pending = (step, metrics, work)

  def flush(self) -> None:
    """Downloads what is pending.

    Raises:
      NonFiniteError: A metric is NaN or infinite.
    """
    if self._pending is None:
      return
    step, metrics, work = self._pending
    self._pending = None
    values = {k: float(v) for k, v in jax.device_get(metrics).items()}
    bad = [k for k, v in values.items() if not math.isfinite(v)]
    if bad:
      raise NonFiniteError(
        f"step {step}: {', '.join(sorted(bad))} is not finite; the last good "
        "checkpoint is kept. Lower optimizer.learning_rate or "
        "optimizer.clip_norm and run again"
      )
    self._window.append(values)
    self._work += work
    if step % self._log_every == 0:
      self._write(step)

  def _write(self, step: int) -> None:
    """Writes the means of the window and starts a new one."""
    now = time.monotonic()
    window = max(now - self._since, 1e-9)
    seconds = window / len(self._window)
    self._since = now
    names = sorted(set().union(*self._window))
    means = {
      name: float(np.mean([row[name] for row in self._window if name in row]))
      for name in names
    }
    means |= {"step_seconds": seconds, "steps_per_second": 1 / seconds}
    means |= self._work.rates(window, peak_flops=self._peak_flops)
    self._window, self._work = [], Work()
    self.scalars(step, means)
    left = datetime.timedelta(seconds=round((self._steps - step) * seconds))
    share = f"  mfu {means['mfu']:.1%}" if "mfu" in means else ""
    self.say(
      f"step {step}/{self._steps}  loss {means['loss']:.5f}  "
      f"{means['steps_per_second']:.2f} steps/s  "
      f"{means['images_per_second']:.1f} images/s{share}  left {left}"
    )

  def scalars(self, step: int, values: Mapping[str, float]) -> None:
    """Writes one line of numbers."""
    if not self._writes:
      return
    self._lines.write(json.dumps({"step": step, **values}) + "\n")
    self._lines.flush()
    for board in self._boards:
      for name, value in values.items():
        board.add_scalar(name, value, step)

  def say(self, message: str) -> None:
    """Prints a line."""
    if self._writes:
      print(message, flush=True)

  @contextlib.contextmanager
  def paused(self) -> Iterator[None]:
    """Leaves what happens inside (a checkpoint, samples) out of the speed.

    Raises:
      NonFiniteError: See `flush`; what came before is written first.
    """
    self.flush()
    began = time.monotonic()
    yield
    self._since += time.monotonic() - began

  def image(
    self, name: str, step: int, pixels: UInt8[np.ndarray, "h w 3"]
  ) -> None:
    """Writes `samples/<name>_<step>.png`, and to TensorBoard."""
    if not self._writes:
      return
    folder = self._workdir / "samples"
    folder.mkdir(exist_ok=True)
    Image.fromarray(pixels).save(folder / f"{name}_{step:07d}.png")
    for board in self._boards:
      board.add_image(name, pixels, step, dataformats="HWC")


def _drop_later(path: pathlib.Path, step: int) -> None:
  """Removes the lines that a process that begins at `step` writes again."""
  if not path.exists():
    return
  text = path.read_text(encoding="utf-8")
  kept = [line for line in text.split("\n") if _stays(line, step)]
  if (rest := "".join(f"{line}\n" for line in kept)) != text:
    atomic.write_text(path, rest)


def _stays(line: str, step: int) -> bool:
  """Whether a line is whole and older; validation is repeated at `step`."""
  try:
    row = json.loads(line)
  except json.JSONDecodeError:
    return False
  return row["step"] < step or (row["step"] == step and "loss" in row)


class _Wandb:
  """Weights & Biases with TensorBoard's methods."""

  def __init__(
    self, project: str, workdir: pathlib.Path, config: Mapping[str, Any]
  ):
    # Imported where it is asked for: it is no requirement.
    import wandb  # pyright: ignore[reportMissingImports]

    self._images = wandb.Image
    self._run = wandb.init(
      project=project,
      name=workdir.name,
      dir=str(workdir),
      id=_run_id(workdir),
      resume="allow",
      config=dict(config),
    )

  def add_scalar(self, name: str, value: float, step: int) -> None:
    self._run.log({name: value}, step=step)

  def add_image(
    self, name: str, pixels: np.ndarray, step: int, *, dataformats: str
  ) -> None:
    del dataformats
    self._run.log({name: self._images(pixels)}, step=step)

  def close(self) -> None:
    self._run.finish()


def _run_id(workdir: pathlib.Path) -> str:
  """What tells a run from others in workdirs of that name, kept in its own."""
  path = workdir / "wandb_id"
  if not path.exists():
    atomic.write_text(path, secrets.token_hex(8))
  return path.read_text()


def tile(images: np.ndarray, columns: int) -> UInt8[np.ndarray, "h w 3"]:
  """Lays images `[n h w 3]` in [-1, 1] out in rows of `columns`."""
  n, h, w, _ = images.shape
  rows = -(-n // columns)
  sheet = np.ones((rows * columns, h, w, 3), np.float32)
  sheet[:n] = np.clip(images, -1.0, 1.0)
  sheet = einops.rearrange(sheet, "(i j) h w c -> (i h) (j w) c", j=columns)
  return np.round((sheet + 1.0) * 127.5).astype(np.uint8)
