"""JSON that programs leave behind, damaged or made up."""

from tests.hostile import attack
from tests.hostile.attacks import commands

_SAMPLE = "a-red-leather-sofa-0"
_DEEP = 100_000
# What is no JSON object of numbers and texts.
_BROKEN = {
  "nothing": "",
  "half an object": '{"prompt": ',
  "a list": "[]",
  "a word": '"sofa"',
  "null": "null",
  "100,000 deep": "[" * _DEEP,
  "objects 100,000 deep": '{"a":' * _DEEP + "1" + "}" * _DEEP,
  "a number of 100,000 digits": '{"seed": ' + "9" * _DEEP + "}",
  "bytes": b"\xff\xfe\x00\x01",
  "UTF-16": '{"prompt": "sofa"}'.encode("utf-16"),
  "a NUL": "{}\0",
}
_READERS = {
  "reconstruct": commands.RECONSTRUCT,
  "view": commands.VIEW,
  "figure": commands.FIGURE,
  "images": commands.IMAGES,
  "consistency": commands.CONSISTENCY,
}
_VALUES = {
  "prompt": (
    7,
    None,
    ["sofa"],
    "",
    "x" * 1_000_000,
    "\ud800",
    "a\0b",
    "\x1b[2J",
  ),
  "seed": ("0", 1.5, None, -1, 10**400, [0]),
  "metric_cameras": ("yes", 1),
  "seconds_of_batch": (7, {"decode": "long"}, {"decode": 1e400}, []),
  "batch_size": (0, "two"),
  "settings": (7, "mix", [1]),
  "peak_memory_bytes": ("much", -1),
}


def _sample(number, name, content, ends):
  """A sample whose record is damaged, given to one of its readers."""
  names = list(_READERS)
  reader = names[number % len(names)]

  def build(scene):
    scene.copy("samples")
    path = f"samples/{_SAMPLE}/sample.json"
    if callable(content):
      content(scene, path)
    else:
      scene.write(path, content)

  return attack.Attack(
    name=f"sample.json: {name}",
    command=_READERS[reader],
    build=build,
    ends=ends,
    writes=("out", "samples"),
  )


def _with(field, value):
  return lambda scene, path: scene.edit(path, **{field: value})


def _finished(name, content):
  """A finished sample of this program with a damaged record."""

  def build(scene):
    scene.write("out/a-chair-0/sample.json", content)
    scene.write("out/a-chair-0/view_00.png", b"a picture")

  return attack.Attack(
    name=f"finished sample: {name}",
    command=(*commands.CHAIR, "--score=2d"),
    build=build,
    says="a-chair-0",
  )


def _asset(name, content):
  """A finished asset with a damaged record."""

  def build(scene):
    scene.copy("samples")
    scene.write(f"samples/{_SAMPLE}/reconstruction.json", content)
    scene.write(f"samples/{_SAMPLE}/asset.glb", b"glTF")

  return attack.Attack(
    name=f"reconstruction.json: {name}",
    command=commands.VIEW,
    build=build,
    ends=attack.EITHER,
    writes=("samples",),
  )


def _report(name, content):
  """A report of `evaluate consistency` that is none."""

  def build(scene):
    scene.copy("samples")
    scene.write("consistency.json", content)

  return attack.Attack(
    name=f"consistency.json: {name}",
    command=(*commands.VIEW, "--metrics=consistency.json"),
    build=build,
    says="consistency.json",
  )


def _renders(name, content):
  """A render folder whose description is damaged."""

  def build(scene):
    scene.copy("renders")
    path = "renders/object_0/meta.json"
    if callable(content):
      content(scene, path)
    else:
      scene.write(path, content)

  return attack.Attack(
    name=f"meta.json: {name}",
    command=commands.BUILD,
    build=build,
    ends=attack.EITHER,
    writes=("out", "renders"),
  )


_META = {
  "uid": ("", "../../x", 7, None, "object_1", "\ud800", "u" * 1_000_000),
  "name": ("", 7, None),
  "views": ([], [{}], "many", [{"camera_to_world": [], "intrinsics": []}]),
  "looks": ([], [{}], [{"look": "x", "material": None, "captions": []}]),
  "tile_columns": (0, -1, "4", 10**9),
  "image_size": (0, -16, 10**9, "16", 17),
}


def _journal(name, damage):
  """A training whose workdir is damaged."""

  def build(scene):
    scene.copy("run", "out")
    damage(scene)

  return attack.Attack(
    name=f"workdir: {name}",
    command=("export", "--workdir=out", "--out=exported"),
    build=build,
    ends=attack.EITHER,
    writes=("out", "exported"),
  )


def _overwrite(pattern, content):
  """Every file of a pattern gets this content."""

  def damage(scene):
    found = [p for p in (scene.home / "out").rglob(pattern) if p.is_file()]
    assert found, pattern
    for path in found:
      path.write_bytes(content)

  return damage


def _metrics(name, content):
  """The figures of a training are damaged."""

  def build(scene):
    scene.copy("run")
    scene.write("run/metrics.jsonl", content)

  return attack.Attack(
    name=f"metrics.jsonl: {name}",
    command=("curves", "a=run", "--out=out/curves.png"),
    build=build,
    ends=attack.EITHER,
  )


ATTACKS = [
  *(_metrics(name, content) for name, content in _BROKEN.items()),
  *(
    _sample(number, name, content, attack.EITHER)
    for number, (name, content) in enumerate(_BROKEN.items())
  ),
  *(
    _sample(
      number, f"{field}={value!r:.24}", _with(field, value), attack.EITHER
    )
    for field, values in _VALUES.items()
    for number, value in enumerate(values)
  ),
  *(_finished(name, content) for name, content in _BROKEN.items()),
  *(_asset(name, content) for name, content in _BROKEN.items()),
  _asset("sums of words", {"made_of": 7, "undetermined": "x", "seconds": "y"}),
  *(_report(name, content) for name, content in _BROKEN.items()),
  _report("methods of a list", {"methods": [1]}),
  _report(
    "assets of words", {"methods": {"a": {"folder": "samples", "assets": 7}}}
  ),
  *(_renders(name, content) for name, content in _BROKEN.items()),
  *(
    _renders(f"{field}={value!r:.24}", _with(field, value))
    for field, values in _META.items()
    for value in values
  ),
  *(
    _journal(f"{pattern} {name}", _overwrite(pattern, content))
    for pattern in (
      "_METADATA",
      "_CHECKPOINT_METADATA",
      "*.json",
      "manifest.ocdbt",
    )
    for name, content in (("of bytes", b"\xff" * 9), ("of nothing", b""))
  ),
]
