"""`launch.py sample`: texts to views."""

import argparse
import pathlib

from ml_collections import config_dict

from mvjax.commands import flags


def add(commands) -> None:
  """Adds `sample`."""
  sample = flags.command(commands, "sample", sample_views, config="config")
  text = sample.add_argument_group("what to draw")
  text.add_argument("--prompt", help="a text")
  text.add_argument("--prompts", help="file with one text a line; # comments")
  text.add_argument("--seeds", type=flags.integers, help="such as 0 or 0,1,2")
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
  work.add_argument(
    "--batch_size", type=int, help="samples at a time on a device"
  )
  work.add_argument("--dtype", help="float32, bfloat16, float16")
  work.add_argument(
    "--reconstruct",
    action="store_true",
    help="make an asset (GLB, PLY) of every sample, as `reconstruct` does",
  )


def sample_views(
  config: config_dict.ConfigDict, reconstruct: bool, **options
) -> None:
  """Draws views of one object for every prompt and seed."""
  from mvjax import locks
  from mvjax.generation import request, run
  from mvjax.pages import shared, site
  from mvjax.parallel import processes
  from mvjax.reconstruction import run as reconstruction

  processes.start(config.processes)
  wanted = request.make_request(request.fields_of(config), options)
  if reconstruct:  # Refused before hours of sampling.
    request.validate(wanted)
    reconstruction.check_number(len(request.cameras(wanted).intrinsics))
  shared.check_place(pathlib.Path(wanted.out))
  with locks.only_run(wanted.out, "out"):
    with processes.ends_if_one_is_lost():
      run.generate(config, wanted)
    if not processes.is_first():
      return
    try:
      if reconstruct:
        settings = reconstruction.Settings()
        reconstruction.reconstruct(wanted.out, settings=settings)
    finally:  # Some assets may have failed; the others are worth a look.
      site.announce(site.build(wanted.out))
