"""`launch.py plan`: what a run needs of a TPU topology."""

from ml_collections import config_dict

from mvjax.commands import environment, flags


def add(commands) -> None:
  """Adds `plan`."""
  plan = flags.command(commands, "plan", plan_run, config="config")
  plan.add_argument(
    "--topology", required=True, help="such as v5e:16x16 or v5p:4x4x4"
  )
  plan.add_argument(
    "--programs",
    type=flags.words,
    default="train,sample",
    help="train, sample, or both",
  )
  plan.add_argument(
    "--samples_per_chip", type=int, default=1, help="assets sampled together"
  )
  plan.add_argument(
    "--latents",
    action="store_true",
    help="train on a data set of `data encode`",
  )
  plan.add_argument(
    "--whole",
    action="store_true",
    help="compile whole programs: exact, and slow at full size",
  )
  plan.add_argument("--json", action="store_true", help="print JSON")


def plan_run(
  config: config_dict.ConfigDict,
  topology: str,
  programs: tuple[str, ...],
  samples_per_chip: int,
  latents: bool,
  whole: bool,
  json: bool,
) -> None:
  """Prints memory, work and limits of a run on TPUs that are not here."""
  environment.plan_without_tpus()
  from json import dumps

  from mvjax.planning import plan, report

  made = plan.make(
    config,
    topology,
    programs=programs,
    samples_per_chip=samples_per_chip,
    latents=latents,
    whole=whole,
  )
  if json:
    print(dumps(report.as_json(made), indent=1))
  else:
    print(report.as_text(made))
