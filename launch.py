"""The only executable: data, train, sample, reconstruct, evaluate and more.

It parses flags and calls one function. `python launch.py COMMAND --help`
lists a command's flags. Commands that take `--config=FILE.py:VARIANT` also
take `--config.section.field=value` for every field of that file.
"""

import argparse
import os
import pathlib
import sys

from absl import flags
from ml_collections import config_dict, config_flags


def main() -> int:
  """Runs the command in sys.argv; wrong input is one line and exit code 2."""
  options, rest = make_parser().parse_known_args()
  values = vars(options)
  command, takes_config = values.pop("command"), values.pop("takes_config")
  try:
    if takes_config:
      values["config"] = parse_config(rest)
    elif rest:
      raise ValueError(f"unexpected argument {rest[0]!r}; see --help")
    command(**values)
  except (ValueError, FileNotFoundError) as error:
    print(f"error: {error}", file=sys.stderr)
    return 2
  return 0


def parse_config(arguments: list[str]) -> config_dict.ConfigDict:
  """Reads `--config=FILE:VARIANT` and its `--config.x.y=value` overrides.

  ml_collections takes the overrides from sys.argv, which holds `arguments`.

  Raises:
    ValueError: No config, an unknown field, or a value of the wrong type.
  """
  values = flags.FlagValues()
  config_flags.DEFINE_config_file(
    "config", flag_values=values, lock_config=True
  )
  try:
    rest = values(["launch.py", *arguments])[1:]
    config = values["config"].value
    if config is not None:
      config.lock()  # a file that could not be read raises here
  except (AttributeError, KeyError) as error:
    field = error.args[0]
    raise ValueError(f"config has no field {field}; see the file") from error
  except (flags.Error, TypeError, OSError) as error:
    # The flag's message quotes the traceback of an error in the file.
    reason = str(error).strip().splitlines()[-1].strip()
    raise ValueError(reason.removeprefix("ValueError: ")) from error
  if rest:
    raise ValueError(f"unexpected argument {rest[0]!r}; see --help")
  if config is None:
    raise ValueError("config is missing; pass --config=configs/nano.py")
  return config


def make_parser() -> argparse.ArgumentParser:
  """All commands and their flags."""
  parser = argparse.ArgumentParser(
    prog="launch.py", description=__doc__.splitlines()[0], allow_abbrev=False
  )
  commands = parser.add_subparsers(required=True, metavar="COMMAND")
  _add_data(_group(commands, "data", "objects to renders to a data set"))
  _add_train(commands)
  _add_export(commands)
  _add_convert(commands)
  _add_sample(commands)
  _add_reconstruct(commands)
  _add_evaluate(_group(commands, "evaluate", "figures about samples"))
  _add_view(commands)
  return parser


def _group(commands, name: str, summary: str):
  group = commands.add_parser(name, help=summary, description=summary)
  return group.add_subparsers(required=True, metavar="COMMAND")


class _Help(argparse.ArgumentDefaultsHelpFormatter):
  """Shows the defaults that say something."""

  def _get_help_string(self, action: argparse.Action) -> str | None:
    if action.default is None:
      return action.help
    return super()._get_help_string(action)


def _command(commands, name: str, function, *, config: bool = False):
  """A sub-command that calls `function` with its flags as keywords."""
  summary = function.__doc__.splitlines()[0]
  parser = commands.add_parser(
    name,
    help=summary,
    description=summary,
    allow_abbrev=False,
    usage=f"launch.py ... {name} --config=FILE.py[:VARIANT] "
    "[--config.SECTION.FIELD=VALUE ...] [flags]"
    if config
    else None,
    formatter_class=_Help,
  )
  parser.set_defaults(command=function, takes_config=config)
  return parser


def _add_data(commands) -> None:
  fetch = _command(commands, "fetch", fetch_objects)
  fetch.add_argument("--out", default="runs/objects", help="folder to create")
  fetch.add_argument("--deb", help="the package's file, where there is no apt")
  render = _command(commands, "render", render_objects)
  render.add_argument(
    "--objects",
    default="runs/objects",
    help="what `data fetch` wrote, or any folder of OBJ and GLB files",
  )
  render.add_argument(
    "--captions",
    help="captions file (CSV or JSON lines) inside any other folder",
  )
  render.add_argument("--out", default="runs/renders", help="folder of renders")
  render.add_argument("--workers", type=int, default=os.cpu_count())
  render.add_argument("--image_size", type=int, default=128, help="pixels")
  render.add_argument("--limit", type=int, help="only the first so many")
  build = _command(commands, "build", build_data)
  build.add_argument("--renders", default="runs/renders", help="what to read")
  build.add_argument("--out", default="runs/data", help="TFDS data directory")
  build.add_argument(
    "--layout", help="read a public layout instead: zero123, spad, transforms"
  )
  build.add_argument("--captions", help="JSON captions of a public layout")


def _add_train(commands) -> None:
  train = _command(commands, "train", train_model, config=True)
  train.add_argument("--workdir", required=True, help="folder of the run")


def _add_export(commands) -> None:
  export = _command(commands, "export", export_model)
  source = export.add_mutually_exclusive_group(required=True)
  source.add_argument("--workdir", help="folder of a run")
  source.add_argument("--checkpoint", help="a model: folder, file or hub id")
  export.add_argument(
    "--out", required=True, help="folder, or file for safetensors, to write"
  )
  export.add_argument(
    "--format",
    default="diffusers",
    help="diffusers, orbax (the same folder with linen parameters), or "
    "safetensors (one file with the original names)",
  )
  _add_dtype(export, "; float16 for a run")


def _add_convert(commands) -> None:
  convert = _command(commands, "convert", convert_model)
  convert.add_argument("source", help="a model: folder, file or hub id")
  convert.add_argument("--out", required=True, help="folder to write")
  convert.add_argument("--lora", help="LoRA file to merge into the weights")
  convert.add_argument("--lora_scale", type=float, default=1.0)
  _add_dtype(convert, "")


def _add_dtype(parser, otherwise: str) -> None:
  parser.add_argument(
    "--dtype",
    choices=("float32", "float16", "bfloat16"),
    help=f"of the weights; those of the source by default{otherwise}",
  )


def _add_sample(commands) -> None:
  sample = _command(commands, "sample", sample_views, config=True)
  text = sample.add_argument_group("what to draw")
  text.add_argument("--prompt", help="a text")
  text.add_argument("--prompts", help="file with one text a line")
  text.add_argument("--seeds", type=_integers, help="such as 0 or 0,1,2")
  text.add_argument("--negative_prompt", help="what guidance leads away from")
  text.add_argument("--out", required=True, help="folder of sample folders")
  cameras = sample.add_argument_group("cameras (degrees; 0 azimuth = front)")
  cameras.add_argument("--views", type=int, help="cameras around the object")
  for name in ("elevation", "azimuth", "distance", "field_of_view"):
    cameras.add_argument(f"--{name}", type=float)
  cameras.add_argument("--cameras", help="cameras.json or transforms.json")
  scores = sample.add_argument_group("scores")
  scores.add_argument("--score", help="mix, mv, 2d or consistency")
  scores.add_argument(
    "--lambda_schedule",
    help="paper, late-2d, constant:0.5, linear:0.3,0.8, "
    "linear:-4=0.3,4=0.8@log_snr, ...",
  )
  scores.add_argument(
    "--timestep_spacing", help="leading, trailing, linspace or ldm"
  )
  for name in ("multiview_guidance", "image_guidance", "guidance_rescale"):
    scores.add_argument(f"--{name}", type=float)
  scores.add_argument("--eta", type=float, help="0: DDIM, 1: ancestral")
  scores.add_argument("--steps", type=int, help="denoising steps")
  scores.add_argument(
    "--view_words",
    action=argparse.BooleanOptionalAction,
    help="tell the 2D model front, side or back view",
  )
  work = sample.add_argument_group(
    "models and work (a model is a folder, a file or a hub id)"
  )
  work.add_argument("--multiview", "--checkpoint", help="the multi-view model")
  work.add_argument("--image", help="the 2D model")
  work.add_argument("--multiview_lora", help="LoRA file for the first")
  work.add_argument("--image_lora", help="LoRA file for the second")
  work.add_argument("--lora_scale", type=float, help="how much of them")
  work.add_argument("--image_size", type=int, help="pixels of a view's side")
  work.add_argument("--batch_size", type=int, help="samples at a time")
  work.add_argument("--dtype", help="float32, bfloat16, float16")


def _add_reconstruct(commands) -> None:
  reconstruct = _command(commands, "reconstruct", reconstruct_views)
  reconstruct.add_argument(
    "--views", required=True, help="a sample folder, or a folder of them"
  )
  reconstruct.add_argument(
    "--out", help="folder of asset folders; otherwise beside the views"
  )
  reconstruct.add_argument(
    "--grid", type=int, default=64, help="voxels on a side; even"
  )
  reconstruct.add_argument(
    "--steps", type=int, default=250, help="steps of the field's fit"
  )
  reconstruct.add_argument(
    "--faces", type=int, default=12000, help="triangles of the mesh, about"
  )
  reconstruct.add_argument(
    "--texture_size", type=int, default=512, help="texels on a side, about"
  )
  reconstruct.add_argument(
    "--search_cameras",
    action="store_true",
    help="find the field of view; for models that do not tell it",
  )


def _add_evaluate(commands) -> None:
  for name, function in (
    ("retrieval", evaluate_retrieval),
    ("retrieval-prompts", write_retrieval_prompts),
  ):
    parser = _command(commands, name, function)
    parser.add_argument("--dataset", default="runs/data/renders/1.0.0")
    parser.add_argument("--num_names", type=int, default=20)
    parser.add_argument("--out", help="file for the result")
    if name == "retrieval":
      parser.add_argument("--samples", required=True, help="sample folders")
    else:
      parser.add_argument("--per_name", type=int, default=4)
  _add_evaluate_images(commands)
  _add_evaluate_consistency(commands)


def _add_evaluate_images(commands) -> None:
  images = _command(commands, "images", evaluate_images)
  _add_sets(images)
  images.add_argument(
    "--reference", required=True, help="data set of renders, or folder"
  )
  images.add_argument("--reference_assets", type=int, default=500)
  images.add_argument("--reference_views", type=int, default=4)
  images.add_argument("--split", default="train", help="of a data set")
  images.add_argument("--looks", type=_words, default="full,retextured")
  images.add_argument("--networks", type=_words, default="lite0,vgg16")
  images.add_argument(
    "--inception", help="the FID's weights, .pth or .safetensors: FID, KID, IS"
  )
  images.add_argument("--resize", type=_words, default="clean,torch")
  images.add_argument(
    "--clip", help="transformers CLIP folder: CLIP score, R-precision"
  )


def _add_evaluate_consistency(commands) -> None:
  consistency = _command(commands, "consistency", evaluate_consistency)
  _add_sets(consistency)
  consistency.add_argument(
    "--floor", help="ground truth: data set of renders, or folder"
  )
  consistency.add_argument("--floor_assets", type=int, default=20)
  consistency.add_argument("--split", default="held_out_objects")
  consistency.add_argument("--looks", type=_words, default="full")
  consistency.add_argument(
    "--metrics", type=_words, default="mvc,tsed", help="also holdout, halves"
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


def _add_sets(parser) -> None:
  parser.add_argument(
    "--samples",
    nargs="+",
    required=True,
    metavar="[LABEL=]DIR",
    help="folders of sample folders, or of <prompt>/*.png + transforms.json",
  )
  parser.add_argument("--out", default="out/evaluation", help="folder to keep")


def _add_view(commands) -> None:
  view = _command(commands, "view", compare_runs)
  view.add_argument(
    "rows", nargs="+", metavar="LABEL=FOLDER", help="--out of `sample` runs"
  )
  view.add_argument("--out", required=True, help="PNG file to write")
  view.add_argument("--seed", type=int, default=0)
  view.add_argument("--views", type=int, default=4, help="shown per sample")


def _words(text: str) -> tuple[str, ...]:
  return tuple(word for word in text.split(",") if word)


def _integers(text: str) -> tuple[int, ...]:
  return tuple(int(number) for number in text.split(","))


def fetch_objects(out: str, deb: str | None) -> None:
  """Downloads and unpacks the furniture package (120 MB)."""
  from data_pipeline import objects

  found = objects.fetch(
    pathlib.Path(out), deb=pathlib.Path(deb) if deb else None
  )
  print(f"{out}: {len(found)} objects")


def render_objects(
  objects: str,
  captions: str | None,
  out: str,
  workers: int,
  image_size: int,
  limit: int | None,
) -> None:
  """Renders objects: colours in three looks, depth, cameras."""
  from data_pipeline import objects as sources
  from data_pipeline import render

  folder = pathlib.Path(objects)
  found = (
    sources.read_folder(folder, captions=captions)
    if captions
    else sources.catalogue(folder)
  )
  failures = render.render_all(
    found[:limit],
    pathlib.Path(out),
    settings=render.RenderSettings(image_size=image_size),
    workers=workers,
  )
  print(f"{out}: {len(found[:limit]) - len(failures)} objects rendered")
  for uid, reason in failures.items():
    print(f"  {uid}: skipped, {reason}")


def build_data(
  renders: str, out: str, layout: str | None, captions: str | None
) -> None:
  """Turns folders of renders into a TFDS data set."""
  from data_pipeline import build, public_layouts

  root = pathlib.Path(renders)
  if layout and not captions:
    raise ValueError("captions is missing; a public layout has none of its own")
  found = (
    public_layouts.find_objects(root, layout, captions=pathlib.Path(captions))
    if layout and captions
    else build.find_rendered(root)
  )
  print(build.build(found, pathlib.Path(out)))


def train_model(config: config_dict.ConfigDict, workdir: str) -> None:
  """Trains a model, or goes on where the run in --workdir stopped."""
  from mvjax.training import loop

  loop.train(config, workdir)


def export_model(
  workdir: str | None,
  checkpoint: str | None,
  out: str,
  format: str,
  dtype: str | None,
) -> None:
  """Writes a run's averaged weights, or any model, in a given format."""
  from mvjax.models import conversion
  from mvjax.training import publish

  if workdir is not None:
    chosen = dtype or "float16"
    print(publish.export(workdir, out, format=format, dtype=chosen))
  else:
    print(conversion.convert(checkpoint, out, format=format, dtype=dtype))


def convert_model(
  source: str,
  out: str,
  lora: str | None,
  lora_scale: float,
  dtype: str | None,
) -> None:
  """Writes any readable model as a diffusers folder."""
  from mvjax.models import conversion

  print(
    conversion.convert(
      source, out, dtype=dtype, lora_file=lora, lora_scale=lora_scale
    )
  )


def sample_views(config: config_dict.ConfigDict, **options) -> None:
  """Draws views of one object for every prompt and seed."""
  from mvjax import compilation
  from mvjax.generation import request, run

  compilation.enable_cache()
  image_model = {f"image_{k}": v for k, v in config.image_model.items()}
  defaults = {**config.sample, **image_model}
  run.generate(config, request.make_request(defaults, options))


def reconstruct_views(
  views: str,
  out: str | None,
  grid: int,
  steps: int,
  faces: int,
  texture_size: int,
  search_cameras: bool,
) -> None:
  """Makes a textured mesh (GLB, PLY) of every sample's views."""
  from mvjax import compilation
  from mvjax.reconstruction import field, mesh, run

  compilation.enable_cache()
  settings = run.Settings(
    fit=field.Settings(grid=grid, steps=steps),
    surface=mesh.Settings(max_faces=faces),
    texture_size=texture_size,
    search_cameras=search_cameras,
  )
  run.reconstruct(views, out=out, settings=settings)


def evaluate_retrieval(
  samples: str, dataset: str, num_names: int, out: str | None
) -> None:
  """Do sampled views find their object's name? Prints R@1 and R@5."""
  from mvjax import compilation
  from mvjax.evaluation import retrieval

  compilation.enable_cache()
  report = retrieval.evaluate(samples, dataset, num_names=num_names, out=out)
  print(retrieval.format_table(report))


def write_retrieval_prompts(
  dataset: str, num_names: int, per_name: int, out: str | None
) -> None:
  """Prompts about frequent names, for `sample --prompts`."""
  from mvjax.evaluation import retrieval

  prompts = retrieval.retrieval_prompts(
    dataset, num_names=num_names, per_name=per_name, out=out
  )
  print("\n".join(prompts))


def evaluate_images(
  samples: list[str],
  out: str,
  networks: tuple[str, ...],
  resize: tuple[str, ...],
  **settings,
) -> None:
  """Quality of single views: distances to a reference, text scores."""
  from mvjax import compilation
  from mvjax.evaluation import image_report, report

  compilation.enable_cache()
  content = image_report.evaluate(
    report.parse_labels(samples),
    image_report.Settings(packaged=networks, conventions=resize, **settings),
    out=out,
  )
  print(image_report.format_report(content))


def evaluate_consistency(
  samples: list[str], out: str, folds: int, lpips: bool, **settings
) -> None:
  """Do views show one object: MVC by refit, TSED, warps, with a floor."""
  from mvjax import compilation
  from mvjax.evaluation import consistency_report, refit, report
  from mvjax.evaluation import lpips as lpips_lib

  compilation.enable_cache()
  distance = None
  if lpips:
    distance = consistency_report.with_lpips(lpips_lib.fetch_weights())
  content = consistency_report.evaluate(
    report.parse_labels(samples),
    consistency_report.Settings(**settings),
    tools=consistency_report.Tools(
      refit=refit.of_field(), folds=folds, lpips=distance
    ),
    out=out,
  )
  print(consistency_report.format_report(content))


def compare_runs(rows: list[str], out: str, seed: int, views: int) -> None:
  """One picture: prompts by columns, runs of `sample` by rows."""
  from mvjax.generation import figure

  pairs = [row.partition("=")[::2] for row in rows]
  if not all(label and folder for label, folder in pairs):
    raise ValueError(f"rows={rows}: each must be LABEL=FOLDER")
  figure.compare(dict(pairs), out, seed=seed, views=views)


if __name__ == "__main__":
  sys.exit(main())
