"""Draws what `make demo` draws, at few steps: tests/goldens/demo/grid.png.

  python -m tests.goldens.make_demo

To be run again when the nano weights or the sampler's arithmetic change on
purpose; look at the picture before you keep it.
"""

import json
import pathlib
import platform
import shutil
import subprocess
import sys
import tempfile

from mvjax import atomic

ROOT = pathlib.Path(__file__).parents[2]
FOLDER = ROOT / "tests" / "goldens" / "demo"
# As in the Makefile, without the asset.
ARGUMENTS = (
  "sample",
  "--config=configs/nano.py",
  "--prompt=a brown wood chair",
  "--views=8",
  "--steps=4",
)


def draw(out):
  """Runs the program; returns the folder of the sample."""
  subprocess.run(
    [sys.executable, "launch.py", *ARGUMENTS, f"--out={out}"],
    cwd=ROOT,
    check=True,
    timeout=900,
  )
  return pathlib.Path(out) / "a-brown-wood-chair-0"


def main():
  """Keeps the picture and what it was made from."""
  with tempfile.TemporaryDirectory() as out:
    sample = draw(out)
    record = json.loads((sample / "sample.json").read_text())
    with atomic.replaced(FOLDER / "grid.png") as path:
      shutil.copyfile(sample / "grid.png", path)
  versions = record["versions"]
  made_by = {
    "program": " ".join(("launch.py", *ARGUMENTS)),
    "version": f"mvjax {versions['mvjax']}, jax {versions['jax']}",
    "script": "tests/goldens/make_demo.py",
    "machine": platform.machine(),
  }
  text = json.dumps({"set": "demo", "made_by": made_by}, indent=1) + "\n"
  atomic.write_text(FOLDER / "config.json", text)


if __name__ == "__main__":
  main()
