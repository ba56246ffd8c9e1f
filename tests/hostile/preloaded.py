"""What launch.py imports when it is used, imported once."""

import importlib

_MODULES = (
  "data_pipeline.build",
  "data_pipeline.render_run",
  "mvjax.commands.command_line",
  "mvjax.commands.data",
  "mvjax.evaluation.consistency_report",
  "mvjax.generation.run",
  "mvjax.models.conversion",
  "mvjax.pages.site",
  "mvjax.planning.plan",
  "mvjax.reconstruction.run",
  "mvjax.table.run",
  "mvjax.training.loop",
  "mvjax.training.publish",
)


def load() -> None:
  """Imports the modules of all commands."""
  for name in _MODULES:
    importlib.import_module(name)
