"""`launch.py evaluate`: figures about samples."""

import argparse
import pathlib

from ml_collections import config_dict

from mvjax.commands import flags


def add(commands) -> None:
  """Adds `evaluate --table` and the commands of `evaluate`."""
  summary = "figures about samples; with --table=FILE.py those of a table"
  parser = commands.add_parser("evaluate", help=summary, description=summary)
  parser.set_defaults(command=evaluate_table, config_flag="table")
  _add_out(parser)
  commands = parser.add_subparsers(metavar="COMMAND")
  _add_out(flags.command(commands, "table", evaluate_table, config="table"))
  for name, function in (
    ("retrieval", evaluate_retrieval),
    ("retrieval-prompts", write_retrieval_prompts),
  ):
    parser = flags.command(commands, name, function)
    parser.add_argument("--dataset", default="runs/data/renders/1.0.0")
    parser.add_argument("--num_names", type=int, default=20)
    parser.add_argument("--out", help="file for the result")
    if name == "retrieval":
      parser.add_argument(
        "--samples", help="sample folders; without them, the ceiling alone"
      )
      parser.add_argument(
        "--features",
        default="out/evaluation/features",
        help="folder to keep features in",
      )
    else:
      parser.add_argument("--per_name", type=int, default=4)
  held_out = flags.command(commands, "held-out-prompts", write_held_out_prompts)
  held_out.add_argument("--dataset", default="runs/data/renders/1.0.0")
  held_out.add_argument("--per_kind", type=int, default=50)
  held_out.add_argument("--out", help="file for the prompts")
  _add_evaluate_images(commands)
  _add_evaluate_consistency(commands)


def _add_evaluate_images(commands) -> None:
  images = flags.command(commands, "images", evaluate_images)
  _add_sets(images)
  images.add_argument(
    "--reference", required=True, help="data set of renders, or folder"
  )
  images.add_argument("--reference_assets", type=int, default=500)
  images.add_argument("--reference_views", type=int, default=4)
  images.add_argument("--split", default="train", help="of a data set")
  images.add_argument("--looks", type=flags.words, default="full,retextured")
  images.add_argument("--networks", type=flags.words, default="lite0,vgg16")
  images.add_argument(
    "--inception", help="the FID's weights, .pth or .safetensors: FID, KID, IS"
  )
  images.add_argument("--resize", type=flags.words, default="clean,torch")
  images.add_argument(
    "--clip", help="transformers CLIP folder: CLIP score, R-precision"
  )


def _add_evaluate_consistency(commands) -> None:
  consistency = flags.command(commands, "consistency", evaluate_consistency)
  _add_sets(consistency)
  consistency.add_argument(
    "--floor", help="ground truth: data set of renders, or folder"
  )
  consistency.add_argument("--floor_assets", type=int, default=20)
  consistency.add_argument("--split", default="held_out_objects")
  consistency.add_argument("--looks", type=flags.words, default="full")
  consistency.add_argument(
    "--metrics",
    type=flags.words,
    default="mvc,tsed",
    help="also holdout, halves",
  )
  consistency.add_argument("--limit", type=int, help="assets of each method")
  consistency.add_argument("--holdout_limit", type=int, default=20)
  consistency.add_argument("--folds", type=int, default=4, help="of holdout")
  consistency.add_argument(
    "--lpips",
    action=argparse.BooleanOptionalAction,
    default=True,
    help="between reprojections",
  )


def _add_out(parser) -> None:
  parser.add_argument("--out", default="out/table", help="folder to keep")


def _add_sets(parser) -> None:
  parser.add_argument(
    "--samples",
    nargs="+",
    required=True,
    metavar="[LABEL=]DIR",
    help="folders of sample folders, or of <prompt>/*.png + transforms.json",
  )
  parser.add_argument("--out", default="out/evaluation", help="folder to keep")


def evaluate_table(table: config_dict.ConfigDict, out: str) -> None:
  """Methods side by side: draws what is missing, scores, writes the table."""
  from mvjax.pages import site
  from mvjax.table import run

  run.evaluate(table, out)
  folder = pathlib.Path(out)
  print((folder / "table.md").read_text(encoding="utf-8"))
  site.announce(folder / site.PAGE)


def evaluate_retrieval(
  samples: str | None,
  dataset: str,
  features: str,
  num_names: int,
  out: str | None,
) -> None:
  """Do sampled views find their name and material? Prints R@1 and R@5."""
  from mvjax.evaluation import retrieval

  _check_file(out)
  report = retrieval.evaluate(
    samples, dataset, features=features, num_names=num_names, out=out
  )
  print(retrieval.format_table(report))


def write_retrieval_prompts(
  dataset: str, num_names: int, per_name: int, out: str | None
) -> None:
  """Prompts about frequent names, for `sample --prompts`."""
  from mvjax.evaluation import render_words

  _check_file(out)
  prompts = render_words.retrieval_prompts(
    dataset, num_names=num_names, per_name=per_name, out=out
  )
  print("\n".join(prompts))


def write_held_out_prompts(
  dataset: str, per_kind: int, out: str | None
) -> None:
  """Prompts about objects in materials that no multi-view model saw."""
  from mvjax.evaluation import held_out_prompts

  _check_file(out)
  prompts = held_out_prompts.held_out_prompts(
    dataset, per_kind=per_kind, out=out
  )
  for kind, texts in prompts.items():
    print("\n  ".join([f"{len(texts)} pairs {kind}:", *texts]))


def evaluate_images(
  samples: list[str],
  out: str,
  networks: tuple[str, ...],
  resize: tuple[str, ...],
  **settings,
) -> None:
  """Quality of single views: distances to a reference, text scores."""
  from mvjax.evaluation import image_report

  content = image_report.evaluate(
    _open_sets(samples),
    image_report.Settings(packaged=networks, conventions=resize, **settings),
    out=out,
  )
  print(image_report.format_report(content))


def evaluate_consistency(
  samples: list[str], out: str, folds: int, lpips: bool, **settings
) -> None:
  """Do views show one object: MVC by refit, TSED, warps, with a floor."""
  from mvjax.evaluation import consistency_report, refit

  content = consistency_report.evaluate(
    _open_sets(samples),
    consistency_report.Settings(**settings),
    tools=consistency_report.Tools(
      refit=refit.of_field(),
      folds=folds,
      lpips=consistency_report.with_lpips() if lpips else None,
    ),
    out=out,
  )
  print(consistency_report.format_report(content))


def _check_file(out: str | None) -> None:
  from mvjax import atomic

  if out:
    atomic.check_file(out, "out")


def _open_sets(samples: list[str]):
  """From labels to assets."""
  from mvjax.evaluation import report
  from mvjax.views import view_sets

  folders = report.parse_labels(samples)
  return {label: view_sets.open_set(path) for label, path in folders.items()}
