"""The paper's comparison with the nano models: quality, consistency, cost.

  python launch.py evaluate --table=configs/table1.py --out=out/table1
  python launch.py evaluate --table=configs/table1.py:runlocal --out=out/small

`runlocal` is 2 prompts, 4 views, 2 steps and a coarse field: does it run?
Every field can be set: `--table.seeds=0,1 --table.consistency.limit=50`. Both
can be killed and repeated; what is done is kept.

A row is `dict(label=...)` with fields of `generation.request.Request` that
differ from `sample`, or with `folder=...`: views that another system made of
the same prompts, in `<folder>/<prompt>/*.png` with a `transforms.json` each
(docs/evaluation.md). Such a row costs nothing to add:

  dict(label="SD + Zero123", folder="out/zero123")

A config of `sample` is a row, too:

  request.fields_of(joint_mvdream_sd21.get_config()) | dict(
    label="MVDream + SD 2.1",
    multiview="sd-v2.1-base-4view.pt",
    image="stable-diffusion-2-1-base",
  )
"""

import ml_collections
from ml_collections import config_dict

from configs import nano
from mvjax.generation import request


def get_config(arg: str = "") -> ml_collections.ConfigDict:
  """The record of the table, or with 'runlocal' of a small one.

  Raises:
    ValueError: an unknown variant.
  """
  if arg not in ("", "runlocal"):
    raise ValueError(f"configs/table1.py:{arg}: expected runlocal or nothing")
  config = ml_collections.ConfigDict()
  config.title = "Joint inference with the nano models"
  # One prompt a line, and how many of them, evenly chosen; None: all.
  config.prompts = "configs/prompts/nano.txt"
  config.num_prompts = config_dict.placeholder(int)
  # Every row has a sample of each prompt with each seed.
  config.seeds = (0,)
  # Draw each row in a process of its own: peak memory is its own then.
  config.own_processes = True

  # What rows have in common: any field of a request.
  config.sample = request.every_field()
  config.sample.update(
    nano.SAMPLING,
    # Four views hardly contradict each other.
    views=8,
    steps=50,
    batch_size=2,
  )
  config.rows = (
    dict(label="2D only", score="2d"),
    dict(label="multi-view only", score="mv"),
    dict(label="ours (mix, paper)", score="mix", lambda_schedule="paper"),
    dict(label="ours (mix, late-2d)", score="mix", lambda_schedule="late-2d"),
    dict(label="consistency guidance", score="consistency"),
  )

  # Single views: fields of `image_report.Settings`.
  config.images = ml_collections.ConfigDict(
    dict(
      reference="runs/data/renders/1.0.0",
      reference_assets=500,
      reference_views=4,
      looks=("full", "retextured"),
      packaged=("lite0", "vgg16"),
      # Weights for FID, KID and IS; folder for the CLIP score.
      inception=config_dict.placeholder(str),
      clip=config_dict.placeholder(str),
    )
  )
  # All views of an asset: fields of `consistency_report.Settings`.
  config.consistency = ml_collections.ConfigDict(
    dict(
      metrics=("mvc", "tsed", "holdout"),
      # Ground truth of new objects, measured beside the rows.
      floor="runs/data/renders/1.0.0",
      floor_assets=20,
      split="held_out_objects",
      looks=("full",),
      # Assets of each row that are measured, and of these for the hold-out.
      limit=20,
      holdout_limit=5,
    )
  )
  # The field: fields of `reconstruction.field.Settings`.
  config.refit = ml_collections.ConfigDict(dict(grid=64, steps=250))
  # Fits of each asset for the hold-out.
  config.folds = 4
  # LPIPS between reprojections.
  config.lpips = True

  # The main table, and its plots (consistency, quality).
  config.columns = (
    "KD-EfficientNet-Lite0",
    "FD-EfficientNet-Lite0",
    "KID (clean)",
    "FID (clean)",
    "CLIP score",
    "retrieval R@1 of 20",
    "material retrieval R@1 of 16",
    "mvc",
    "mvc above floor",
    "holdout",
    "tsed",
    "seconds",
    "peak memory (MiB)",
  )
  config.plots = (
    ("mvc", "KD-EfficientNet-Lite0"),
    ("mvc", "retrieval R@1 of 20"),
    ("mvc", "KID (clean)"),
    ("mvc", "CLIP score"),
  )
  if arg:
    _runlocal(config)
  return config.lock()


def _runlocal(config: ml_collections.ConfigDict) -> None:
  config.num_prompts = 2
  config.sample.update(views=4, steps=2, batch_size=1)
  config.images.update(
    reference_assets=4, reference_views=2, packaged=("lite0",)
  )
  config.consistency.update(
    metrics=("mvc", "tsed"), floor_assets=2, limit=2, holdout_limit=1
  )
  config.refit.update(grid=16, steps=10)
  config.lpips = False
