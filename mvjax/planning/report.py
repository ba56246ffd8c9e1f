"""A plan as text and as JSON."""

from typing import Any

from mvjax.planning import part, plan

_GIB = 2**30


def summary(made: plan.Plan, one: part.Part) -> dict[str, Any]:
  """The figures of a program of a plan, all per chip."""
  seconds = one.cost.roofline(made.chip)
  limit = max(seconds, key=seconds.__getitem__)
  return {
    "program": one.name,
    "compiled": "whole" if one.whole else "block by block",
    "programs_compiled": one.compiled,
    "seconds_to_compile": round(one.seconds, 1),
    "memory": dict(one.memory),
    "memory_bytes": one.bytes,
    "hbm_bytes": made.chip.hbm_bytes,
    "fits": not one.problem and one.bytes <= made.chip.hbm_bytes,
    "problem": one.problem,
    "flops": one.cost.flops,
    "bytes_accessed": one.cost.bytes,
    "collectives": {
      kind: {"count": count, "bytes_sent": size}
      for kind, (count, size) in sorted(one.cost.collectives.items())
    },
    "bytes_sent": one.cost.sent,
    "estimated_cycles": one.cost.cycles,
    "seconds_by_cycles": one.cost.cycles / made.chip.cycles_per_second,
    "seconds_by_limit": seconds,
    "roofline_seconds": seconds[limit],
    "limited_by": limit,
  }


def as_json(made: plan.Plan) -> dict[str, Any]:
  """The plan as JSON values; sizes in bytes, times in seconds, per chip."""
  chips = 1
  for size in made.mesh.values():
    chips *= size
  return {
    "topology": made.topology,
    "chips": chips,
    "mesh": dict(made.mesh),
    "batch": dict(made.batch),
    "parameters": dict(made.parameters),
    "programs": [summary(made, one) for one in made.parts],
  }


def as_text(made: plan.Plan) -> str:
  """The plan for people."""
  content = as_json(made)
  axes = " x ".join(f"{k} {v}" for k, v in made.mesh.items())
  lines = [
    f"{made.topology}: {content['chips']} chips, mesh {axes}",
    f"{made.parameters['trained'] / 1e6:.0f} M trained and "
    f"{made.parameters['frozen'] / 1e6:.0f} M frozen parameters; "
    f"{made.batch['train']} examples of {made.batch['views']} views a step; "
    f"{made.batch['sample']} assets sampled together",
    "all figures per chip",
  ]
  for found in content["programs"]:
    lines += ["", *_program(found)]
  return "\n".join(lines)


def _program(found: dict[str, Any]) -> list[str]:
  head = (
    f"{found['program']} ({found['compiled']}, {found['programs_compiled']} "
    f"compiled in {found['seconds_to_compile']:.0f} s)"
  )
  if found["problem"]:
    return [head, f"  does not fit: {found['problem']}"]
  pieces = ", ".join(
    f"{name} {size / _GIB:.2f}" for name, size in found["memory"].items()
  )
  verdict = "fits" if found["fits"] else "does NOT fit"
  times = ", ".join(
    f"{name} {1e3 * seconds:.3g}"
    for name, seconds in found["seconds_by_limit"].items()
  )
  lines = [
    head,
    f"  memory      {found['memory_bytes'] / _GIB:.2f} of "
    f"{found['hbm_bytes'] / _GIB:.2f} GiB: {verdict}",
    f"              ({pieces})",
    f"  work        {found['flops'] / 1e12:.3g} TFLOP, "
    f"{found['bytes_accessed'] / 1e9:.3g} GB accessed",
  ]
  for kind, one in found["collectives"].items():
    lines.append(
      f"  {kind:<18} {one['count']:.0f}, {one['bytes_sent'] / 1e6:.4g} MB sent"
    )
  return [
    *lines,
    f"  roofline    {1e3 * found['roofline_seconds']:.3g} ms, limited by "
    f"{found['limited_by']} (ms: {times})",
    f"  compiler    {found['estimated_cycles']:.4g} cycles, "
    f"{1e3 * found['seconds_by_cycles']:.3g} ms",
  ]
