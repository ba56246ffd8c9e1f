"""`launch.py train`."""

import logging

from ml_collections import config_dict

from mvjax.commands import environment, flags


def add(commands) -> None:
  """Adds `train`."""
  train = flags.command(commands, "train", train_model, config="config")
  train.add_argument("--workdir", required=True, help="folder of the run")


def train_model(config: config_dict.ConfigDict, workdir: str) -> None:
  """Trains a model, or goes on where the run in --workdir stopped."""
  # Orbax logs the errors, with their stacks, that it raises.
  logging.getLogger("absl").setLevel(logging.CRITICAL)
  environment.divide_cpu(config.train.cpu_devices)
  from mvjax.training import loop

  loop.train(config, workdir)
