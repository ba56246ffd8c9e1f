"""The only executable: data | train | export | sample | evaluate | view.

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
  _add_sample(commands)
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
  export.add_argument("--workdir", required=True, help="folder of a run")
  export.add_argument("--out", required=True, help="model folder to write")


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
  for name in ("multiview_guidance", "image_guidance", "guidance_rescale"):
    scores.add_argument(f"--{name}", type=float)
  scores.add_argument("--eta", type=float, help="0: DDIM, 1: ancestral")
  scores.add_argument("--steps", type=int, help="denoising steps")
  scores.add_argument(
    "--view_words",
    action=argparse.BooleanOptionalAction,
    help="tell the 2D model front, side or back view",
  )
  work = sample.add_argument_group("models and work")
  work.add_argument("--multiview", help="folder of the multi-view model")
  work.add_argument("--image", help="folder of the 2D model")
  work.add_argument("--batch_size", type=int, help="samples at a time")
  work.add_argument("--dtype", help="float32 or bfloat16")


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


def _add_view(commands) -> None:
  view = _command(commands, "view", compare_runs)
  view.add_argument(
    "rows", nargs="+", metavar="LABEL=FOLDER", help="--out of `sample` runs"
  )
  view.add_argument("--out", required=True, help="PNG file to write")
  view.add_argument("--seed", type=int, default=0)
  view.add_argument("--views", type=int, default=4, help="shown per sample")


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


def export_model(workdir: str, out: str) -> None:
  """Writes a run's averaged weights as a diffusers folder (float16)."""
  from mvjax.training import publish

  print(publish.publish(workdir, out))


def sample_views(config: config_dict.ConfigDict, **options) -> None:
  """Draws views of one object for every prompt and seed."""
  from mvjax import compilation
  from mvjax.generation import request, run

  compilation.enable_cache()
  run.generate(config, request.make_request(config.sample, options))


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


def compare_runs(rows: list[str], out: str, seed: int, views: int) -> None:
  """One picture: prompts by columns, runs of `sample` by rows."""
  from mvjax.generation import figure

  pairs = [row.partition("=")[::2] for row in rows]
  if not all(label and folder for label, folder in pairs):
    raise ValueError(f"rows={rows}: each must be LABEL=FOLDER")
  figure.compare(dict(pairs), out, seed=seed, views=views)


if __name__ == "__main__":
  sys.exit(main())
