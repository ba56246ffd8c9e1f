"""`launch.py reconstruct`: views to an asset."""

import argparse

from mvjax.commands import flags


def add(commands) -> None:
  """Adds `reconstruct`."""
  reconstruct = flags.command(commands, "reconstruct", reconstruct_views)
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
    action=argparse.BooleanOptionalAction,
    help="find the field of view; otherwise for samples of models that do not "
    "tell it (metric_cameras in sample.json)",
  )


def reconstruct_views(
  views: str,
  out: str | None,
  grid: int,
  steps: int,
  faces: int,
  texture_size: int,
  search_cameras: bool | None,
) -> None:
  """Makes a textured mesh (GLB, PLY) of every sample's views."""
  from mvjax.reconstruction import field, mesh, run

  settings = run.Settings(
    fit=field.Settings(grid=grid, steps=steps),
    surface=mesh.Settings(max_faces=faces),
    texture_size=texture_size,
    search_cameras=search_cameras,
  )
  run.reconstruct(views, out=out, settings=settings)
