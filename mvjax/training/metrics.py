"""Where training numbers go: JSON lines, TensorBoard and the terminal."""

import contextlib
import datetime
import json
import math
import pathlib
import time
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import numpy as np
import tensorboardX
from jaxtyping import UInt8
from PIL import Image


class NonFiniteError(ValueError):
  """Training produced NaN or infinity; the message names step and metric."""


class Writer:
  """Writes means over `log_every` steps, and sample images.

  `push` keeps the newest metrics on the device and downloads the ones before,
  so that logging never waits for the step that has just been dispatched.
  """

  def __init__(
    self,
    workdir: pathlib.Path,
    *,
    steps: int,
    log_every: int,
    images_per_step: int,
  ):
    self._workdir = workdir
    self._steps, self._log_every = steps, log_every
    self._images_per_step = images_per_step
    self._lines = (workdir / "metrics.jsonl").open("a", encoding="utf-8")
    self._board = tensorboardX.SummaryWriter(str(workdir / "tensorboard"))
    self._pending: tuple[int, Mapping[str, Any]] | None = None
    self._window: list[dict[str, float]] = []
    self._since = time.monotonic()

  def __enter__(self) -> "Writer":
    return self

  def __exit__(self, *exception) -> None:
    self._lines.close()
    self._board.close()

  def push(self, step: int, metrics: Mapping[str, Any]) -> None:
    """Takes the metrics of `step` (not downloaded yet)."""
    self.flush()
    self._pending = (step, metrics)

  def flush(self) -> None:
    """Downloads what is pending.

    Raises:
      NonFiniteError: A metric is NaN or infinite.
    """
    if self._pending is None:
      return
    step, metrics = self._pending
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
    if step % self._log_every == 0:
      self._write(step)

  def _write(self, step: int) -> None:
    """Writes the means of the window and starts a new one."""
    now = time.monotonic()
    rate = len(self._window) / max(now - self._since, 1e-9)
    self._since = now
    names = sorted(set().union(*self._window))
    means = {
      name: float(np.mean([row[name] for row in self._window if name in row]))
      for name in names
    }
    self._window = []
    means |= {
      "steps_per_second": rate,
      "images_per_second": rate * self._images_per_step,
    }
    self._lines.write(json.dumps({"step": step, **means}) + "\n")
    self._lines.flush()
    for name, value in means.items():
      self._board.add_scalar(name, value, step)
    left = datetime.timedelta(seconds=round((self._steps - step) / rate))
    print(
      f"step {step}/{self._steps}  loss {means['loss']:.5f}  "
      f"{rate:.2f} steps/s  {means['images_per_second']:.1f} images/s  "
      f"left {left}",
      flush=True,
    )

  @contextlib.contextmanager
  def paused(self) -> Iterator[None]:
    """Leaves what happens inside (a checkpoint, samples) out of the speed."""
    began = time.monotonic()
    yield
    self._since += time.monotonic() - began

  def image(
    self, name: str, step: int, pixels: UInt8[np.ndarray, "h w 3"]
  ) -> None:
    """Writes `samples/<name>_<step>.png`, and to TensorBoard."""
    folder = self._workdir / "samples"
    folder.mkdir(exist_ok=True)
    Image.fromarray(pixels).save(folder / f"{name}_{step:07d}.png")
    self._board.add_image(name, pixels, step, dataformats="HWC")


def tile(images: np.ndarray, columns: int) -> UInt8[np.ndarray, "h w 3"]:
  """Lays images `[n h w 3]` in [-1, 1] out in rows of `columns`."""
  n, h, w, _ = images.shape
  rows = -(-n // columns)
  sheet = np.ones((rows * columns, h, w, 3), np.float32)
  sheet[:n] = np.clip(images, -1.0, 1.0)
  sheet = sheet.reshape(rows, columns, h, w, 3).transpose(0, 2, 1, 3, 4)
  sheet = sheet.reshape(rows * h, columns * w, 3)
  return np.round((sheet + 1.0) * 127.5).astype(np.uint8)
