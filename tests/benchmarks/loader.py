"""How fast batches come: assets and views a second, by threads and workers.

  PYTHONPATH=. python tests/benchmarks/loader.py --path=runs/data/renders/1.0.0

Settings take turns, so that other work on the machine meets them all alike;
figures are medians over the rounds. Compare with what a training step takes:
`images_per_second` in its metrics.jsonl.
"""

import argparse
import itertools
import statistics
import time

from data_pipeline import loader

# (threads, worker processes)
_SETTINGS = ((1, 0), (2, 0), (4, 0), (1, 1), (1, 2), (2, 2))


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--path", default="runs/data/renders/1.0.0")
  parser.add_argument("--looks", default="simplified")
  parser.add_argument("--num_views", type=int, default=4)
  parser.add_argument("--batch_size", type=int, default=16)
  parser.add_argument("--batches", type=int, default=20, help="in a round")
  parser.add_argument("--rounds", type=int, default=3)
  options = parser.parse_args()
  seconds = {setting: [] for setting in _SETTINGS}
  for turn, setting in itertools.product(range(options.rounds), _SETTINGS):
    threads, workers = setting
    batches = loader.batches(
      loader.LoaderSettings(
        path=options.path,
        looks=tuple(options.looks.split(",")),
        num_views=options.num_views,
        batch_size=options.batch_size,
        threads=threads,
        prefetch=max(2, threads),
        workers=workers,
      ),
      turn * options.batches,
    )
    next(batches)  # processes and files are open now
    start = time.perf_counter()
    for _ in range(options.batches):
      next(batches)
    seconds[setting].append(time.perf_counter() - start)
    del batches
  print(
    f"{options.path}, {options.num_views} views, batches of "
    f"{options.batch_size}, n = {options.rounds} x {options.batches} batches"
  )
  print("| threads | workers | assets/s | views/s |")
  print("|---|---|---|---|")
  for (threads, workers), times in seconds.items():
    assets = options.batches * options.batch_size / statistics.median(times)
    print(
      f"| {threads} | {workers} | {assets:.0f} | "
      f"{assets * options.num_views:.0f} |"
    )


if __name__ == "__main__":
  main()
