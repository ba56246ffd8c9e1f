"""Published layouts at full size: write, convert, load, sample.

  PYTHONPATH=.:tests:tests/weights python tests/benchmarks/full_size.py \
    --family=mvdream_sd21 --work=/tmp/full

Random weights under the published names and shapes (tests/goldens/keys) are
written as the file that people have, converted by `launch.py convert`, loaded
in a process of its own (its peak memory is measured beside the interpreter's),
and sampled by `launch.py sample`: 2 steps of 4 views at 256 px. Prints a row of
the README's table for each. Compilation is not in the seconds per step: they
are of the second batch.
"""

import argparse
import json
import pathlib
import pickle
import subprocess
import sys
import zipfile
import zlib

import key_tables
import numpy as np
import torch_files

from mvjax.weights import safetensors_writer
from mvjax.weights import tensors as tensors_lib

ROOT = pathlib.Path(__file__).parents[2]
FAMILIES = {
  "sd15": (
    "v1-5-pruned-emaonly.safetensors",
    ["--config=configs/joint_spad_sd15.py", "--score=2d", "--image"],
  ),
  "mvdream_sd21": (
    "sd-v2.1-base-4view.pt",
    ["--config=configs/mvdream.py", "--checkpoint"],
  ),
}
LOAD = """
import json, resource, sys, time
import jax, numpy as np
from mvjax.models import loading
def peak():
  return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
before, start = peak(), time.perf_counter()
params = loading.load(sys.argv[1], sys.argv[2]).params
jax.block_until_ready(params)
print(json.dumps({
  "seconds": time.perf_counter() - start,
  "interpreter": before,
  "peak": peak(),
  "params": sum(x.nbytes for x in jax.tree.leaves(params)),
}))
"""


def draw(name: str, shape: tuple[int, ...]) -> np.ndarray:
  """Values of ordinary size, the same whenever they are drawn."""
  random = np.random.default_rng(zlib.crc32(name.encode()))
  values = random.standard_normal(shape, np.float32)
  if len(shape) < 2:
    return 0.1 * values + float(name.endswith("weight"))
  return values / np.float32(np.prod(shape[1:]) ** 0.5)


def published(family: str) -> dict[str, tuple[int, ...]]:
  """Names and shapes in the published file."""
  tensors = (
    key_tables.stable_diffusion(family)
    if family.startswith("sd")
    else key_tables.file_of(family)
  )
  return {name: tuple(tensor.shape) for name, tensor in tensors.items()}


def write_safetensors(path: pathlib.Path, shapes) -> None:
  """Writes float32 values, drawn one tensor at a time."""
  safetensors_writer.write_safetensors(
    path,
    {
      name: tensors_lib.View(
        shape=shape,
        dtype=np.dtype(np.float32),
        read=lambda name=name, shape=shape: draw(name, shape),
      )
      for name, shape in shapes.items()
    },
    header={},
  )


def write_torch(path: pathlib.Path, shapes) -> None:
  """Writes what torch.save writes, one storage at a time."""
  items = {}
  for number, (name, shape) in enumerate(shapes.items()):
    size = int(np.prod(shape))
    strides = [int(np.prod(shape[axis + 1 :])) for axis in range(len(shape))]
    items[name] = torch_files.tensor(
      torch_files.storage(str(number), size), shape=shape, strides=strides
    )
  body = torch_files.PROTOCOL_2 + torch_files.ordered(**items) + pickle.STOP
  with zipfile.ZipFile(path, "w") as archive:
    archive.writestr("archive/data.pkl", body)
    archive.writestr("archive/byteorder", "little")
    for number, (name, shape) in enumerate(shapes.items()):
      archive.writestr(f"archive/data/{number}", draw(name, shape).tobytes())


def run(*command: str) -> str:
  """Standard output of a command in the repository."""
  done = subprocess.run(
    [sys.executable, *command], cwd=ROOT, check=True, stdout=subprocess.PIPE
  )
  return done.stdout.decode()


def main() -> None:
  """Does all of it for one family."""
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument("--family", choices=FAMILIES, required=True)
  parser.add_argument("--work", type=pathlib.Path, required=True)
  parser.add_argument("--dtype", default="float32")
  options = parser.parse_args()
  options.work.mkdir(parents=True, exist_ok=True)
  name, flags = FAMILIES[options.family]
  file, folder = options.work / name, options.work / options.family
  if not file.is_file():
    write = write_torch if file.suffix == ".pt" else write_safetensors
    write(file, published(options.family))
  run(
    *("launch.py", "convert", str(file)),
    *(f"--out={folder}", f"--dtype={options.dtype}"),
  )
  loads = {
    what.suffix or "folder": json.loads(
      run("-c", LOAD, str(what), options.dtype).splitlines()[-1]
    )
    for what in (file, folder)
  }
  out = options.work / f"out_{options.family}_{options.dtype}"
  run(
    *("launch.py", "sample", *flags[:-1], f"{flags[-1]}={folder}"),
    *("--views=4", "--image_size=256", "--steps=2", "--batch_size=1"),
    *("--prompt=a chair", "--seeds=0,1", f"--dtype={options.dtype}"),
    f"--out={out}",
  )
  batches = [
    json.loads(path.read_text())["seconds_of_batch"]["denoise"]
    for path in sorted(out.glob("*/sample.json"))
  ]
  for what, load in loads.items():
    beyond = (load["peak"] - load["interpreter"]) / load["params"]
    print(
      f"| {options.family} | {what} | {options.dtype} | "
      f"{load['params'] / 1e9:.2f} GB | {load['seconds']:.1f} s | "
      f"{load['peak'] / 1e9:.2f} GB ({beyond:.2f} of the parameters beyond "
      f"the interpreter) | {min(batches) / 2:.1f} s |"
    )


if __name__ == "__main__":
  main()
