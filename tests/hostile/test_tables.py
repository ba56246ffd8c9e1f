"""A table that is killed in each of its stages ends like an undisturbed one."""

import itertools
import json

from tests.hostile import kills

# A path that a stage writes, and which of its changes is the last of a run.
STAGES = {
  "drawing, first file": ("samples/", 1),
  "drawing, a picture": ("view_01.png", 1),
  "drawing, record": ("sample.json", 1),
  "features": ("scores/features", 2),
  "figures of pictures": ("images.json", 1),
  "fits": ("scores/mvc", 4),
  "matches": ("scores/tsed", 3),
  "figures of consistency": ("consistency.json", 1),
  "record of the table": ("out/table.json", 1),
  "its text": ("out/table.md", 1),
  "its plot": ("out/kd-mean-mvc.png", 1),
  "copies": ("out/copies", 3),
  "the table's page": ("out/index.html", 1),
}
# What takes time is no figure.
TIMINGS = ("seconds", "peak memory (MiB)")


CONFIG = """
from configs import table1

def get_config():
  config = table1.get_config("runlocal")
  with config.unlocked():
    config.prompts = "prompts.txt"
    config.num_prompts = None
    config.own_processes = False
    config.sample.update(
      multiview="<good>/multiview", image="<good>/image", views=4
    )
    config.rows = (
      dict(label="drawn", score="2d"),
      dict(label="other", folder="samples"),
    )
    config.images.update(reference="samples", packaged=("lite0",))
    config.consistency.update(floor="samples", metrics=("mvc", "tsed"))
    config.lpips = False
    config.columns = ("KD-mean", "mvc")
    config.plots = (("mvc", "KD-mean"),)
  return config
"""


def content(out):
  """The table, its pictures and its pages, without times."""
  table = json.loads((out / "table.json").read_text())
  for row in table["rows"].values():
    row.pop("folder")
    for name in TIMINGS:
      row["figures"].pop(name, None)
      row.get("published", {}).pop(name, None)
  # What a killed process was writing has a name that starts with a dot.
  found = {path.relative_to(out) for path in out.rglob("*")}
  names = {
    str(path)
    for path in found
    if not any(part.startswith(".") for part in path.parts)
  }
  pictures = {
    str(path.relative_to(out)): path.read_bytes()
    for path in out.rglob("view_*.png")
    if str(path.relative_to(out)) in names
  }
  return table["rows"], names, pictures


def test_a_killed_table_goes_on(launch, scene):
  scene.copy("samples")
  scene.write("prompts.txt", "a red leather sofa\na blue wooden chair\n")
  (config,) = scene.command([CONFIG])
  scene.write("table.py", config)

  def run(out, killing):
    command = ["evaluate", "--table=table.py", f"--out={out}"]
    how = {"kills": killing, "stand_in": "measures"}
    count = kills.until_done(launch, command, scene.home, **how)
    return count, content(scene.home / out)

  _, whole = run("whole", itertools.repeat(None))
  stages = ({"path": path, "count": count} for path, count in STAGES.values())
  killed, found = run("out", itertools.chain(stages, [None]))
  assert killed == len(STAGES)
  assert found == whole
