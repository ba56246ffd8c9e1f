"""Cameras that see nothing, files of cameras that name other files."""

import json

import numpy as np

from tests.hostile import attack
from tests.hostile.attacks import commands

_POSE = [[0, 0, 1, 3.0], [1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 1]]
_LENS = [[1.4, 0, 0.5], [0, 1.4, 0.5], [0, 0, 1]]
_DEEP = 100_000


def _ours(count=1, **changes):
  view = {"camera_to_world": _POSE, "intrinsics": _LENS} | changes
  return {"views": [view] * count}


def _nerf(count=1, frame=None, **changes):
  one = {"file_path": "view_00.png", "transform_matrix": _POSE} | (frame or {})
  return {"camera_angle_x": 0.7, "frames": [one] * count} | changes


def _matrix(value):
  return np.full((4, 4), value).tolist()


_FILES = {
  "no cameras": {},
  "no views": {"views": []},
  "views of a word": {"views": "all"},
  "views of numbers": {"views": [1, 2]},
  "frames of an object": {"frames": {"a": 1}},
  "a list": [],
  "a pose of words": _ours(camera_to_world="front"),
  "a pose of three rows": _ours(camera_to_world=_POSE[:3]),
  "ragged rows": _ours(camera_to_world=[[1], [1, 2], [], []]),
  "a pose of NaN": _ours(camera_to_world=_matrix(float("nan"))),
  "a pose of infinity": _ours(camera_to_world=_matrix(float("inf"))),
  "a pose of 1e308": _ours(camera_to_world=_matrix(1e308)),
  "a pose of a huge number": _ours(
    camera_to_world=_matrix(0)[:3] + [[10**400]]
  ),
  "a singular pose": _ours(camera_to_world=_matrix(0.0)),
  "a mirrored pose": _ours(camera_to_world=np.diag([1.0, 1, -1, 1]).tolist()),
  "a stretched pose": _ours(camera_to_world=np.diag([9.0, 1, 1, 1]).tolist()),
  "a lens of NaN": _ours(intrinsics=np.full((3, 3), np.nan).tolist()),
  "a lens without focus": _ours(intrinsics=np.diag([0.0, 0, 1]).tolist()),
  "a negative lens": _ours(intrinsics=np.diag([-1.0, -1, 1]).tolist()),
  "a lens of null": _ours(intrinsics=None),
  "20,000 cameras": _ours(20_000),
  "200,000 cameras": '{"views": [' + "{}," * 200_000 + "{}]}",
  "an angle of zero": _nerf(camera_angle_x=0.0),
  "an angle of half a turn": _nerf(camera_angle_x=float(np.pi)),
  "an angle of a word": _nerf(camera_angle_x="wide"),
  "an angle of NaN": _nerf(camera_angle_x=float("nan")),
  "a width of zero": _nerf(fl_x=10.0, w=0),
  "a focus of zero": _nerf(fl_x=0.0, w=16),
  "a focus of a word": _nerf(fl_x="long", w=16),
  "a matrix of words": _nerf(frame={"transform_matrix": "x"}),
  "100,000 deep": "[" * _DEEP,
  "objects 100,000 deep": '{"views":' * _DEEP + "1" + "}" * _DEEP,
  "bytes": b"\xff\xfe\x00",
  "a NUL": '{"views": 1}\0',
  "nothing": "",
}


def _sampling(name, content):
  command = tuple(w for w in commands.CHAIR if not w.startswith("--views"))
  return attack.Attack(
    name=name,
    command=(*command, "--score=2d", "--cameras=cameras.json"),
    build=lambda scene: scene.write("cameras.json", content),
    says="cameras",
  )


_READERS = (
  commands.RECONSTRUCT,
  commands.CONSISTENCY,
  commands.VIEW,
  commands.IMAGES,
)


def _beside_views(number, name, content):
  def build(scene):
    scene.copy("samples")
    scene.write("samples/a-red-leather-sofa-0/transforms.json", content)

  return attack.Attack(
    name=f"beside views: {name}",
    command=_READERS[number % len(_READERS)],
    build=build,
    ends=attack.EITHER,
    writes=("out", "samples"),
  )


def _public(name, content):
  def build(scene):
    scene.copy("transforms")
    scene.write("transforms/chair/transforms.json", content)

  return attack.Attack(
    name=f"transforms: {name}",
    command=commands.layout("transforms"),
    build=build,
    ends=attack.EITHER,
  )


def _secret(scene):
  """A picture outside of the folder, and a link to it inside."""
  scene.copy("samples")
  scene.copy("transforms")
  source = scene.home / "samples/a-blue-wooden-chair-0/view_00.png"
  scene.write("secret.png", source.read_bytes())
  for folder in ("samples/a-red-leather-sofa-0", "transforms/chair"):
    (scene.home / folder / "link.png").symlink_to(scene.home / "secret.png")


_PATHS = (
  "../../secret.png",
  "..\\..\\secret.png",
  "/etc/passwd",
  "link.png",
  "./x/../../../secret.png",
  "/dev/zero",
  "x" * 5000,
  "a\0b.png",
  "",
  ".",
  "\ud800.png",
  7,
  None,
)


def _naming(path, command, folder):
  """Every frame names a file that is not among the views."""

  def build(scene):
    _secret(scene)
    scene.write(
      f"{folder}/transforms.json", _nerf(4, frame={"file_path": path})
    )

  return attack.Attack(
    name=f"{folder.partition('/')[0]} names {json.dumps(path)[:24]}",
    command=command,
    build=build,
    ends=attack.EITHER,
    writes=("out", "samples"),
    check=_not_shown,
  )


def _not_shown(scene, outcome):
  """No page points out of its folder."""
  for page in scene.home.glob("samples/*/*.html"):
    text = page.read_text()
    assert "secret.png" not in text and "/etc/passwd" not in text


_SOFA = "samples/a-red-leather-sofa-0"
ATTACKS = [
  *(_sampling(name, content) for name, content in _FILES.items()),
  attack.Attack(
    name="a folder",
    command=(*_sampling("", "").command[:-1], "--cameras=."),
    says="cameras",
  ),
  *(
    _beside_views(number, name, content)
    for number, (name, content) in enumerate(_FILES.items())
  ),
  *(_public(name, content) for name, content in list(_FILES.items())[::2]),
  *(
    _naming(path, command, folder)
    for number, path in enumerate(_PATHS)
    for command, folder in (
      (_READERS[number % 4], _SOFA),
      (commands.layout("transforms"), "transforms/chair"),
    )
  ),
]
