"""`launch.py export` and `launch.py convert`: models in, models out."""

from mvjax.commands import flags


def add_export(commands) -> None:
  """Adds `export`."""
  export = flags.command(commands, "export", export_model)
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


def add_convert(commands) -> None:
  """Adds `convert`."""
  convert = flags.command(commands, "convert", convert_model)
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
