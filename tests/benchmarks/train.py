"""Images a second that the nano models train at on this CPU, beside PyTorch.

  .venv/bin/python tests/benchmarks/train.py
  .venv/bin/python tests/benchmarks/train.py --cases=multiview --repeats=20

A case is a task of configs/nano.py, `image` or `multiview`, as it trains on
encoded data with the shipped weights, or `torch`: diffusers' UNet of the same
config and batch as `image`, with AdamW and given texts, so without the text
encoder and the averages that ours trains beside it. Every case is a process of
its own; they take turns, one step each, while the others wait.

CPU seconds an image are of all threads of a case. They change less than images
a second where something else runs; for the latter nothing else should.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import time

import numpy as np

HOME = pathlib.Path(__file__).resolve().parents[2]
CASES = ("image", "multiview", "torch")
WEIGHTS = {"image": "checkpoints/nano-2d", "multiview": "checkpoints/nano-mv"}
# The first steps compile and warm caches.
WARM_UP = 2


def main():
  """Runs all cases and prints what their steps took."""
  options = parse()
  if options.worker:
    return work(options.worker)
  cases = options.cases.split(",")
  workers, found = {}, {case: [] for case in cases}
  try:
    for case in cases:
      workers[case] = start(case, options)
      report = read(workers[case], case)
      print(f"{case}: ready after {report['seconds']:.0f} s", flush=True)
    for _ in range(options.repeats):
      for case, worker in workers.items():
        worker.stdin.write("step\n")
        worker.stdin.flush()
        found[case].append(read(worker, case))
  finally:
    for worker in workers.values():
      worker.kill()
  for case, steps in found.items():
    rates = [step["images"] / step["seconds"] for step in steps]
    spent = [1e3 * step["cpu"] / step["images"] for step in steps]
    print(
      f"{case:10} images/s median {statistics.median(rates):.1f} max "
      f"{max(rates):.1f}   CPU ms an image median "
      f"{statistics.median(spent):.1f} min {min(spent):.1f}   n = {len(steps)}"
    )


def parse():
  """The command line."""
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument("--cases", default=",".join(CASES))
  parser.add_argument("--repeats", type=int, default=10)
  parser.add_argument(
    "--torch_python",
    default=str(HOME / ".venv-parity/bin/python"),
    help="of an environment with torch; `make test-parity` makes this one",
  )
  parser.add_argument("--worker", choices=CASES, help=argparse.SUPPRESS)
  return parser.parse_args()


def start(case, options):
  """A process that trains one case."""
  python = options.torch_python if case == "torch" else sys.executable
  return subprocess.Popen(
    [python, __file__, f"--worker={case}"],
    stdin=subprocess.PIPE,
    stdout=subprocess.PIPE,
    text=True,
    cwd=HOME,
  )


def read(worker, case):
  """A worker's next report."""
  line = worker.stdout.readline()
  if not line:
    raise SystemExit(f"{case} failed, see above")
  return json.loads(line)


def work(case):
  """Prepares a case, then takes one step for every line of input."""
  # Libraries may print: reports go to the real output, all else to stderr.
  reports = os.fdopen(os.dup(1), "w")
  os.dup2(2, 1)
  begin = time.perf_counter()
  step, images = prepare_torch() if case == "torch" else prepare(case)
  for _ in range(WARM_UP):
    step()
  report(reports, seconds=time.perf_counter() - begin)
  for _ in sys.stdin:
    begin, spent = time.perf_counter(), time.process_time()
    step()
    report(
      reports,
      seconds=time.perf_counter() - begin,
      cpu=time.process_time() - spent,
      images=images,
    )


def report(file, **values):
  """Sends a report to the parent."""
  print(json.dumps(values), file=file, flush=True)


def prepare(task_name):
  """A function that trains a task for one step, and the images of a step."""
  sys.path.insert(0, str(HOME))
  from mvjax.commands import environment

  environment.prepare()
  from configs import nano

  config = nano.get_config(task_name)
  config.train.init_from = WEIGHTS[task_name]
  environment.divide_cpu(config.train.cpu_devices)
  import jax

  from mvjax import tokenizer
  from mvjax.parallel import mesh as meshes
  from mvjax.training import program
  from mvjax.training.tasks import registry

  tokens = tokenizer.Tokenizer.load(f"{WEIGHTS[task_name]}/tokenizer")
  run = program.Run(
    config,
    registry.with_tokenizer(config, tokens),
    mesh=meshes.make(config.mesh),
  )
  batch, state = run.put(examples(config)), run.program.start()

  def step():
    nonlocal state
    state, values = run.step("main", state, batch)
    jax.block_until_ready((state, values))

  return step, config.train.batch_size * config.data.num_views


def examples(config):
  """A batch as the loader of encoded data gives it, of random numbers."""
  from mvjax import geometry

  random = np.random.default_rng(0)
  b, v = config.train.batch_size, config.data.num_views
  side = config.data.image_size // 2 ** (len(config.vae.block_out_channels) - 1)
  camera = geometry.orbit(
    azimuth=random.uniform(0, 2 * np.pi, (b, v)),
    elevation=0.3,
    distance=3.0,
    field_of_view=0.7,
    xnp=np,
  )
  text = config.text_encoder
  return {
    "posterior": random.standard_normal(
      (b, v, side, side, 2 * config.vae.latent_channels), np.float32
    ),
    "text": random.standard_normal(
      (b, text.max_position_embeddings, text.hidden_size), np.float32
    ),
    "caption": np.array(["a red leather sofa"] * b),
    "camera": {
      "camera_to_world": camera.camera_to_world,
      "intrinsics": camera.intrinsics,
    },
  }


def prepare_torch():
  """The same for diffusers' UNet in PyTorch."""
  import diffusers
  import torch

  folder = HOME / WEIGHTS["image"]
  network = diffusers.UNet2DConditionModel.from_pretrained(
    folder, subfolder="unet", torch_dtype=torch.float32
  )
  schedule = diffusers.DDIMScheduler.from_pretrained(
    folder, subfolder="scheduler"
  )
  network.train()
  optimizer = torch.optim.AdamW(network.parameters(), lr=6e-4)
  # Of configs/nano.py, which needs packages that this environment lacks.
  images, tokens = 16, 32
  fields = network.config
  latents = torch.randn(
    images, fields.in_channels, fields.sample_size, fields.sample_size
  )
  text = torch.randn(images, tokens, fields.cross_attention_dim)

  def step():
    noise = torch.randn_like(latents)
    t = torch.randint(0, schedule.config.num_train_timesteps, (images,))
    output = network(schedule.add_noise(latents, noise, t), t, text).sample
    target = schedule.get_velocity(latents, noise, t)
    loss = torch.nn.functional.mse_loss(output, target)
    optimizer.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
    optimizer.step()

  return step, images


if __name__ == "__main__":
  main()
