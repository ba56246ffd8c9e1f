"""One labelled picture from sample folders: prompts by columns, runs by rows.

Every run is the --out folder of one `launch.py sample`, for instance one with
--score=mv, one with --score=2d and one with --score=mix.
"""

import math
import os
import pathlib
import textwrap
from collections.abc import Mapping

from PIL import Image, ImageDraw, ImageFont

from data_pipeline import pictures
from mvjax import atomic
from mvjax.views import choice, sample_record

_MARGIN = 12
_FONT_SIZE = 18
_LABEL_WIDTH = 130


def compare(
  runs: Mapping[str, str | os.PathLike],
  out: str | os.PathLike,
  *,
  seed: int = 0,
  views: int = 4,
  cell: int = 256,
) -> None:
  """Writes the picture as PNG.

  Args:
    runs: row label to folder of sample folders. Columns are the prompts that
      all of them have with this seed, in the order of the alphabet.
    out: PNG file.
    seed: which sample of each prompt.
    views: shown per sample, evenly chosen; a square of 1, 4, 9, ...
    cell: side of a sample in pixels.

  Raises:
    ValueError: there is no run, or no prompt that all runs have; a record or
      a view of a sample is damaged.
  """
  if not runs:
    raise ValueError("runs: there is none; pass at least one LABEL=FOLDER")
  side = math.isqrt(max(views, 0))
  if not 1 <= side <= cell or side**2 != views:
    raise ValueError(
      f"views={views}: must be a square number: 1, 4, 9, ... {cell**2}"
    )
  found = {label: _samples(folder, seed) for label, folder in runs.items()}
  prompts = sorted(set.intersection(*(set(s) for s in found.values())))
  if not prompts:
    have = ", ".join(f"{label}: {len(s)}" for label, s in found.items())
    raise ValueError(
      f"runs: no prompt has a sample with seed {seed} in every folder "
      f"(samples with that seed: {have}); run `launch.py sample` for each"
    )
  font = ImageFont.load_default(_FONT_SIZE)
  head = 3 * (_FONT_SIZE + 4) + _MARGIN
  step = cell + _MARGIN
  size = (
    _LABEL_WIDTH + step * len(prompts) + _MARGIN,
    head + step * len(runs),
  )
  canvas = Image.new("RGB", size, "white")
  draw = ImageDraw.Draw(canvas)
  for column, prompt in enumerate(prompts):
    lines = textwrap.wrap(prompt, max(8, int(1.8 * cell / _FONT_SIZE)))[:3]
    middle = _LABEL_WIDTH + column * step + cell // 2
    draw.multiline_text(
      (middle, head - _MARGIN // 2),
      "\n".join(lines),
      fill="black",
      font=font,
      anchor="md",
      align="center",
    )
  for row, (label, samples) in enumerate(found.items()):
    top = head + row * step
    draw.multiline_text(
      (_MARGIN, top + cell // 2),
      "\n".join(textwrap.wrap(label, 12)),
      fill="black",
      font=font,
      anchor="lm",
    )
    for column, prompt in enumerate(prompts):
      tile = _square(samples[prompt], side=side, size=cell)
      canvas.paste(tile, (_LABEL_WIDTH + column * step, top))
  with atomic.replaced(pathlib.Path(out)) as new:
    canvas.save(new, format="PNG")


def _samples(folder: str | os.PathLike, seed: int) -> dict[str, pathlib.Path]:
  """Finished sample folders with this seed, by prompt."""
  found = {}
  for path in sorted(pathlib.Path(folder).glob(f"*/{sample_record.NAME}")):
    # A folder that is still being written starts with a dot.
    if not path.parent.name.startswith("."):
      record = sample_record.read(path.parent)
      if record.get("seed") == seed and "prompt" in record:
        found[record["prompt"]] = path.parent
  return found


def _square(folder: pathlib.Path, *, side: int, size: int) -> Image.Image:
  """Evenly chosen views of a sample, side by side in a square.

  Raises:
    ValueError: there is none, or one is damaged.
  """
  paths = choice.evenly(sorted(folder.glob("view_*.png")), side**2)
  if not paths:
    raise ValueError(f"{folder}: holds no view_*.png; sample it again")
  tile = Image.new("RGB", (size, size), "white")
  small = size // side
  for i, levels in enumerate(pictures.read(paths, "RGB")):
    resized = Image.fromarray(levels).resize(
      (small, small), Image.Resampling.LANCZOS
    )
    tile.paste(resized, (i % side * small, i // side * small))
  return tile
