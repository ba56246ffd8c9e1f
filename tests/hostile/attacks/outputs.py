"""Results that would go where they must not."""

from tests.hostile import attack
from tests.hostile.attacks import commands

# What a command needs beside its flags, and the flag that says where to write.
_WRITERS = {
  "sample": (commands.CHAIR, (), "--out"),
  "train": (commands.TRAIN, (), "--workdir"),
  "convert": (commands.CONVERT, (), "--out"),
  "export": (commands.EXPORT, (), "--out"),
  "export safetensors": (
    ("export", "--checkpoint=<good>/image", "--format=safetensors"),
    (),
    "--out",
  ),
  "reconstruct": (commands.RECONSTRUCT, ("samples",), "--out"),
  "figure": (commands.FIGURE, ("samples",), "--out"),
  "data fetch": (("data", "fetch", "--deb=no.deb"), (), "--out"),
  "data render": (commands.RENDER, ("objects",), "--out"),
  "data build": (commands.BUILD, ("renders",), "--out"),
  "data encode": (commands.ENCODE, ("data",), "--out"),
  "evaluate": (commands.TABLE, (), "--out"),
  "images": (commands.IMAGES, ("samples",), "--out"),
  "consistency": (commands.CONSISTENCY, ("samples",), "--out"),
  "retrieval": ((*commands.RETRIEVAL, "--num_names=2"), ("data",), "--out"),
  "retrieval-prompts": (commands.RETRIEVAL_PROMPTS, ("data",), "--out"),
  "held-out-prompts": (commands.HELD_OUT, ("data",), "--out"),
}
# What these write is small, or they need more to get so far.
_SMALL = (
  *("data fetch", "train", "export safetensors", "evaluate"),
  *("retrieval-prompts", "held-out-prompts"),
)
_FILES = ("figure", "retrieval", "retrieval-prompts", "held-out-prompts")


def _elsewhere(kind, place, *, build, **how):
  """The command with another place to write to."""
  command, copies, flag = _WRITERS[kind]
  kept = [word for word in command if not word.startswith(f"{flag}=")]

  def both(scene):
    for name in copies:
      scene.copy(name)
    build(scene)

  return attack.Attack(
    command=(*kept, f"{flag}={place}"), build=both, **{"says": "", **how}
  )


def _users_files(scene):
  scene.write("mine/letter.txt", "dear diary")
  scene.write("mine/index.html", "my page")
  scene.write("mine/deep/photo.png", b"\x89PNG")


def _file(scene):
  scene.write("mine", "a file of the user's")


def _dangling(scene):
  (scene.home / "mine").symlink_to("nowhere/at/all")


def _full(kind):
  """The disk is full: no file may have more than some bytes."""
  command, copies, _ = _WRITERS[kind]
  if "--out" not in " ".join(command):
    command = (*command, "--out=out")

  def build(scene):
    for name in copies:
      scene.copy(name)

  return attack.Attack(
    name=f"{kind}: a full disk",
    command=command,
    build=build,
    file_bytes=1000,
    ends=attack.FULL,
  )


ATTACKS = [
  *map(_full, (kind for kind in _WRITERS if kind not in _SMALL)),
  *[
    _elsewhere(kind, "mine", name=f"{kind}: a file is there", build=_file)
    for kind in _WRITERS
    if kind not in _FILES
  ],
  *[
    _elsewhere(kind, "mine/below", name=f"{kind}: below a file", build=_file)
    for kind in _WRITERS
  ],
  *[
    _elsewhere(
      kind,
      "mine",
      name=f"{kind}: a folder of the user's is there",
      build=_users_files,
    )
    for kind in (*_FILES, "convert", "export safetensors")
  ],
  *[
    # These add their own folders; what was there stays.
    _elsewhere(
      kind,
      "mine",
      name=f"{kind}: beside the user's files",
      build=_users_files,
      ends=attack.EITHER,
      writes=("mine",),
    )
    for kind in (
      *("reconstruct", "data render", "data build", "data fetch", "export"),
    )
  ],
  *[
    _elsewhere(kind, place, name=f"{kind}: {name}", build=lambda scene: None)
    for kind in ("sample", "convert", "figure", "held-out-prompts", "train")
    for name, place in (
      ("no name", ""),
      ("below a device", "/dev/null/x"),
      ("a name that is too long", "x" * 300),
      ("a NUL in the name", "a\0b"),
      ("where nobody writes", "/proc/mine"),
    )
  ],
  *[
    _elsewhere(kind, "mine", name=f"{kind}: a dangling link", build=_dangling)
    for kind in ("convert", "export")
  ],
]
