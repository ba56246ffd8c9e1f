"""Lists that users write: prompts, captions, objects; and what they name."""

import os

from tests.hostile import attack
from tests.hostile.attacks import commands

_DEEP = 100_000


def _prompts(name, content, **how):
  """A file of prompts, or what is in its place."""

  def build(scene):
    if callable(content):
      content(scene.home / "prompts.txt")
    else:
      scene.write("prompts.txt", content)

  return attack.Attack(
    name=f"prompts: {name}",
    command=(*commands.SAMPLE, "--score=2d", "--prompts=prompts.txt"),
    build=build,
    **{"says": "prompt", **how},
  )


def _captions(name, content, *, ends=attack.REFUSED, layout="transforms"):
  """The captions of a public layout."""

  def build(scene):
    scene.copy(layout)
    scene.write(f"{layout}/captions.json", content)
    scene.write("secret/transforms.json", "{}")
    (scene.home / layout / "link").symlink_to(scene.home / "secret")

  return attack.Attack(
    name=f"captions: {name}",
    command=commands.layout(layout),
    build=build,
    ends=ends,
  )


def _row(**changes):
  return {"chair": {"name": "chair", "captions": ["a chair"]} | changes}


_GOOD = _row()["chair"]
_CAPTIONS = {
  "a text": "abc",
  "a JSON text": '"abc"',
  "nothing": "",
  "a list": [],
  "nobody": {},
  "null": "null",
  "100,000 deep": "[" * _DEEP,
  "objects 100,000 deep": '{"a":' * _DEEP + "1" + "}" * _DEEP,
  "bytes": b"\xff\xfe\x00",
  "a text for an object": {"chair": "abc"},
  "a text for captions": _row(captions="abc"),
  "no captions": _row(captions=[]),
  "numbers for captions": _row(captions=[1, 2]),
  "empty captions": _row(captions=["", " "]),
  "no name": {"chair": {"captions": ["a chair"]}},
  "a number for a name": _row(name=7),
  "an unknown front": _row(front="up"),
  "an unknown field": _row(colour="red"),
  "a folder above": {"../transforms/chair": _GOOD},
  "an absolute folder": {"/etc": _GOOD},
  "the folder itself": {".": _GOOD, "": _GOOD},
  "a link out of the folder": {"link": _GOOD},
  "a name with a NUL": {"a\0b": _GOOD},
  "a name of 5,000 letters": {"x" * 5000: _GOOD},
  "a folder that is not there": {"table": _GOOD},
  "half a letter": _row(captions=["\ud800"]),
}
_MIXED = {
  "one of two is not there": {"table": _GOOD} | _row(),
  "one of two has a text": {"table": "abc"} | _row(),
  "a caption of a megabyte": _row(captions=["x" * 1_000_000]),
  "a caption of a script": _row(captions=["<script>alert(1)</script>"]),
  "a caption that speaks to the terminal": _row(captions=["\x1b[2J\r\n"]),
}


def _objects(name, content, *, file="captions.csv", says="captions", **how):
  """The list of a folder of objects."""

  def build(scene):
    scene.copy("objects")
    scene.write(f"objects/{file}", content)
    scene.write("secret.obj", "v 0 0 0\n")
    (scene.home / "objects/link.obj").symlink_to(scene.home / "secret.obj")

  return attack.Attack(
    name=f"objects: {name}",
    command=(*commands.RENDER, f"--captions={file}"),
    build=build,
    says=says,
    **how,
  )


_OBJECTS = {
  "no lines": "",
  "only a header": "file,name\n",
  "no name": "file\nbox.obj\n",
  "other columns": "a,b\nc,d\n",
  "bytes": b"file,name\n\xff\xfe,x\n",
  "a NUL": "file,name\nbox\0.obj,box\n",
  "a field of a megabyte": "file,name\nbox.obj," + "x" * 1_000_000 + "\n",
  "a quote without its end": 'file,name\n"box.obj,box\n',
  "a file twice": "file,name\nbox.obj,box\nbox.obj,box\n",
  "a file above": "file,name\n../secret.obj,box\n",
  "an absolute file": "file,name\n/etc/passwd,box\n",
  "a link out of the folder": "file,name\nlink.obj,box\n",
  "a file of another kind": "file,name\nbox.png,box\n",
  "a file that is not there": "file,name\nnone.obj,box\n",
  "an empty file name": "file,name\n,box\n",
}
_LINES = {
  "a list": "[1]\n",
  "a text": '"abc"\n',
  "no JSON": "{\n",
  "100,000 deep": "[" * _DEEP + "\n",
  "numbers": '{"file": 7, "name": 8}\n',
  "nothing": "\n\n",
}


def _model(name, content, file="box.obj"):
  """A model that is damaged; the other one is good."""

  def build(scene):
    scene.copy("objects")
    scene.write(f"objects/{file}", content)

  return attack.Attack(
    name=f"model: {name}",
    command=commands.RENDER,
    build=build,
    ends=attack.EITHER,
  )


_TRIANGLE = "v 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 3\n"
_MODELS = {
  "nothing": "",
  "text": "this is a chair",
  "bytes": b"\xff\xfe\x00" * 100,
  "NaN": "v nan nan nan\nv 1 0 0\nv 0 1 0\nf 1 2 3\n",
  "infinity": "v 1e400 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 3\n",
  "a face of points that are not there": "v 0 0 0\nf 7 8 9\n",
  "no surface": "v 0 0 0\nv 0 0 0\nv 0 0 0\nf 1 2 3\n",
  "a library above": f"mtllib ../../secret.mtl\n{_TRIANGLE}",
  "a library that never ends": f"mtllib /dev/zero\n{_TRIANGLE}",
}


def _archive(name, content):
  """The furniture package, which is none."""

  def build(scene):
    if callable(content):
      content(scene.home / "furniture.deb")
    else:
      scene.write("furniture.deb", content)

  return attack.Attack(
    name=f"package: {name}",
    command=("data", "fetch", "--deb=furniture.deb", "--out=out"),
    build=build,
    says="furniture.deb",
  )


ATTACKS = [
  _prompts("nothing", ""),
  _prompts("only remarks", "# a\n\n   \n#b\n"),
  _prompts("bytes", b"\xff\xfe\x00"),
  _prompts("UTF-16", "a chair".encode("utf-16")),
  _prompts("half a letter", "\ud800"),
  _prompts("a folder", os.mkdir),
  _prompts("a link to itself", lambda path: path.symlink_to("prompts.txt")),
  _prompts("a pipe that nobody fills", os.mkfifo),
  _prompts("a file that never ends", lambda path: path.symlink_to("/dev/zero")),
  _prompts("a million of them", "\n".join(map(str, range(1_000_000)))),
  _prompts("an archive", b"PK\x03\x04" + bytes(range(256)) * 9),
  *(_captions(name, content) for name, content in _CAPTIONS.items()),
  *(
    _captions(name, content, ends=attack.EITHER)
    for name, content in _MIXED.items()
  ),
  _captions("a link out of zero123", {"link": _GOOD}, layout="zero123"),
  _captions("a link out of spad", {"link": _GOOD}, layout="spad"),
  *(
    _objects(
      name,
      content,
      # What a good line says is missing is noticed when it is drawn.
      ends=attack.EITHER,
    )
    for name, content in _OBJECTS.items()
  ),
  *(
    _objects(name, content, file="list.jsonl", says="list", ends=attack.EITHER)
    for name, content in _LINES.items()
  ),
  attack.Attack(
    name="objects: a list above",
    command=(*commands.RENDER, "--captions=../../../etc/passwd"),
    build=lambda scene: scene.copy("objects"),
    says="passwd",
  ),
  *(_model(name, content) for name, content in _MODELS.items()),
  _model("a GLB of bytes", b"glTF" + b"\xff" * 99, "ball.glb"),
  _archive("nothing", ""),
  _archive("text", "furniture"),
  _archive("an ar archive", b"!<arch>\n" + b"x" * 60),
  _archive("a zip file", b"PK\x03\x04"),
  _archive("a folder", os.mkdir),
  _archive("a link to itself", lambda path: path.symlink_to("furniture.deb")),
  _archive("a pipe that nobody fills", os.mkfifo),
  _archive("a file that never ends", lambda path: path.symlink_to("/dev/zero")),
]
