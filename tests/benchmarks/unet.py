"""Seconds of a UNet forward on this CPU: ours and diffusers', side by side.

  .venv/bin/python tests/benchmarks/unet.py
  .venv/bin/python tests/benchmarks/unet.py --cases=mvjax,mvjax+conv-im2col

A case is a provider, `mvjax`, `torch` or `flax` (diffusers' two; the last needs
requirements-flax-providers.txt), and for ours any options of `unet_variants`,
joined by `+`. Every case is a process of its
own with the same weights and inputs; they take turns, one forward each, while
the others wait. SD 1.5 size in float32 holds 3.5 GB for a case, or 7 GB on
two devices. Nothing else should run.
"""

import argparse
import json
import os
import pathlib
import platform
import statistics
import subprocess
import sys
import time
import zlib

import numpy as np

HOME = pathlib.Path(__file__).resolve().parents[2]
PROVIDERS = ("mvjax", "torch", "flax")
VIEWS, TOKENS = 4, 77
_UNET = {
  "act_fn": "silu",
  "attention_head_dim": 8,
  "down_block_types": ["CrossAttnDownBlock2D"] * 3 + ["DownBlock2D"],
  "in_channels": 4,
  "layers_per_block": 2,
  "norm_num_groups": 32,
  "out_channels": 4,
  "up_block_types": ["UpBlock2D"] + ["CrossAttnUpBlock2D"] * 3,
}
SIZES = {
  # Stable Diffusion 1.5.
  "full": _UNET
  | {
    "block_out_channels": [320, 640, 1280, 1280],
    "cross_attention_dim": 768,
    "sample_size": 32,
  },
  "tiny": _UNET
  | {
    "block_out_channels": [32, 64, 64, 64],
    "cross_attention_dim": 32,
    "layers_per_block": 1,
    "sample_size": 16,
  },
}


def main():
  """Runs all cases and prints, for each, what its forwards took."""
  options = parse()
  if options.worker:
    return work(options.worker, SIZES[options.size])
  cases, workers, first = options.cases.split(","), {}, None
  try:
    for case in cases:
      workers[case] = start(case, options)
      report = read(workers[case], case)
      output = np.array(report["output"])
      first = output if first is None else first
      print(
        f"{case}: ready after {report['seconds']:.1f} s, output differs from "
        f"the first case's by {np.abs(output - first).max():.1e}",
        flush=True,
      )
    seconds = {case: [] for case in cases}
    for _ in range(options.repeats):
      for case, worker in workers.items():
        worker.stdin.write("run\n")
        worker.stdin.flush()
        seconds[case].append(read(worker, case)["seconds"])
  finally:
    for worker in workers.values():
      worker.kill()
  tell(seconds, options)


def parse():
  """The command line."""
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument("--cases", default=",".join(PROVIDERS))
  parser.add_argument("--size", choices=SIZES, default="full")
  parser.add_argument("--repeats", type=int, default=5)
  parser.add_argument("--out", help="JSON file to write")
  parser.add_argument(
    "--torch_python",
    default=str(HOME / ".venv-parity/bin/python"),
    help="of an environment with torch; `make test-parity` makes this one",
  )
  parser.add_argument("--worker", help=argparse.SUPPRESS)
  return parser.parse_args()


def start(case, options):
  """A process that runs one case."""
  python = options.torch_python if case == "torch" else sys.executable
  return subprocess.Popen(
    [python, __file__, f"--worker={case}", f"--size={options.size}"],
    stdin=subprocess.PIPE,
    stdout=subprocess.PIPE,
    text=True,
    env=os.environ | {"JAX_PLATFORMS": "cpu"},
  )


def read(worker, case):
  """A worker's next report."""
  line = worker.stdout.readline()
  if not line:
    raise SystemExit(f"{case} failed, see above")
  return json.loads(line)


def tell(seconds, options):
  """Prints the table, and writes it with the machine's traits."""
  print(f"\nseconds, {options.size} size, n = {options.repeats}")
  width = max(map(len, seconds))
  for case, values in seconds.items():
    print(
      f"{case:{width}}  min {min(values):.3f}  median "
      f"{statistics.median(values):.3f}  max {max(values):.3f}"
    )
  if options.out:
    record = {
      "size": options.size,
      "views": VIEWS,
      "seconds": seconds,
      "machine": platform.machine(),
      "processors": os.cpu_count(),
    }
    pathlib.Path(options.out).write_text(json.dumps(record, indent=2) + "\n")


def work(case, config):
  """Prepares a case, then runs one forward for every line of input."""
  # Libraries may print: reports go to the real output, all else to stderr.
  reports = os.fdopen(os.dup(1), "w")
  os.dup2(2, 1)
  begin = time.perf_counter()
  provider, *options = case.split("+")
  run = {"mvjax": run_mvjax, "torch": run_torch, "flax": run_flax}[provider](
    config, options
  )
  output = np.asarray(run()).reshape(-1)
  report(
    reports,
    output=output[:4096].tolist(),
    seconds=time.perf_counter() - begin,
  )
  for _ in sys.stdin:
    begin = time.perf_counter()
    run()
    report(reports, seconds=time.perf_counter() - begin)


def report(file, **values):
  """Sends a report to the parent."""
  print(json.dumps(values), file=file, flush=True)


def run_mvjax(config, options):
  """Our UNet."""
  sys.path.insert(0, str(HOME))
  # Flags are read when jax starts.
  import unet_variants

  unknown = set(options) - set(unet_variants.OPTIONS)
  if unknown:
    raise SystemExit(
      f"unknown options {sorted(unknown)}: choose from {unet_variants.OPTIONS}"
    )
  flags = [unet_variants.FLAGS[o] for o in options if o in unet_variants.FLAGS]
  os.environ["XLA_FLAGS"] = " ".join(flags)
  unet_variants.install(options)

  import jax

  from mvjax.models import configs

  devices = 2 if unet_variants.TWO_DEVICES in options else 1
  jax.config.update("jax_num_cpu_devices", devices)
  network = configs.unet_from_config(config)
  return compiled(network, config, devices=devices)


def run_flax(config, options):
  """Our parameters in diffusers' Flax UNet."""
  del options
  sys.path.insert(0, str(HOME))
  from mvjax.models import configs, diffusers_flax

  ours = configs.unet_from_config(config)
  network = diffusers_flax.like(diffusers_flax.DiffusersUNet, ours)
  return compiled(network, config)


def compiled(network, config, devices=1):
  """A function that runs a network of ours with our parameters."""
  import jax

  from mvjax.models import configs, stable_diffusion
  from mvjax.weights import names

  plain = configs.unet_from_config(config)
  shapes = stable_diffusion.abstract_params(
    plain, *stable_diffusion.unet_inputs(plain)
  )
  tensors = {}
  for path, leaf in jax.tree_util.tree_leaves_with_path(shapes):
    parts = tuple(entry.key for entry in path)
    shape = leaf.shape
    if parts[-1] == "kernel":
      shape = (*shape[:-3:-1], *shape[:-2])
    key = names.torch_key(parts)
    tensors[key] = draw(key, shape)
  params = names.from_torch(tensors)
  del tensors
  mesh = jax.make_mesh(
    (devices,), ("views",), axis_types=(jax.sharding.AxisType.Auto,)
  )
  spread, whole = (
    jax.NamedSharding(mesh, jax.P(*axes)) for axes in (("views",), ())
  )
  params = jax.device_put(params, whole)
  values = jax.device_put(inputs(config), spread)
  apply = jax.jit(lambda params, *x: network.apply({"params": params}, *x))
  return lambda: apply(params, *values).block_until_ready()


def run_torch(config, options):
  """Diffusers' PyTorch UNet."""
  del options
  import diffusers
  import torch

  with torch.device("meta"):
    network = diffusers.UNet2DConditionModel(**config)
  state = {
    key: torch.from_numpy(draw(key, tuple(value.shape)))
    for key, value in network.state_dict().items()
  }
  network.load_state_dict(state, assign=True)
  network.eval()
  x, t, text = map(torch.from_numpy, inputs(config))
  x = torch.movedim(x, -1, 1).contiguous()

  @torch.inference_mode()
  def run():
    return torch.movedim(network(x, t, text).sample, 1, -1)

  return run


def draw(key, shape):
  """A weight by its torch name, quickly: few numbers, repeated."""
  random = np.random.default_rng(zlib.crc32(key.encode()))
  block = random.standard_normal(2**16 + 1, np.float32)
  values = np.resize(block, shape)
  if len(shape) > 1:
    return values / np.float32(np.sqrt(np.prod(shape[1:])))
  return np.float32(0.1) * values + np.float32(key.endswith("weight"))


def inputs(config):
  """Noisy maps, times and texts."""
  random = np.random.default_rng(0)
  side = config["sample_size"]
  return (
    random.standard_normal((VIEWS, side, side, 4), np.float32),
    np.linspace(10, 990, VIEWS, dtype=np.float32),
    random.standard_normal(
      (VIEWS, TOKENS, config["cross_attention_dim"]), np.float32
    ),
  )


if __name__ == "__main__":
  main()
