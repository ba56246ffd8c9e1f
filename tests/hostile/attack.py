"""A bad input, and what every one of them must leave behind.

A run ends in one line and exit code 2 or in a result, within a minute and four
gibibytes; it asks no other machine, starts no program and leaves no process;
and every file that was there is there still, byte for byte.
"""

import dataclasses
import hashlib
import json
import os
import pathlib
import re
import shutil
import stat
from collections.abc import Callable, Sequence

from tests.hostile import program

LONGEST_LINE = 1000
REFUSED, RESULT, EITHER = "refused", "a result", "either"
# Where nothing more can be written the exit code is another one.
FULL = "full"
_CODES = {REFUSED: (2,), RESULT: (0,), EITHER: (0, 2), FULL: (4,)}
# Which commit made a sample or a run.
_ALLOWED = ("rev-parse",)
# Of tqdm: 3/4 [00:12<00:04.
_BAR = re.compile(r"\[[\d:]+<[\d:?]+")
_REMARKS = ("skipped ", "WARNING:", "ERROR:absl:")
# TFDS forgets an empty file.
_TFDS = "tfds"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Scene:
  """Where an attack takes place.

  Attributes:
    home: working folder of the run, the attack's own.
    good: folder of good inputs that all attacks share.
  """

  home: pathlib.Path
  good: pathlib.Path

  def command(self, words: Sequence[str]) -> list[str]:
    """Words with <good> and <root> filled in."""
    places = {"<good>": str(self.good), "<root>": str(program.ROOT)}
    filled = []
    for word in words:
      for name, place in places.items():
        word = word.replace(name, place)
      filled.append(word)
    return filled

  def copy(self, name: str, to: str = "") -> pathlib.Path:
    """A copy of a good input in the working folder."""
    return shutil.copytree(self.good / name, self.home / (to or name))

  def write(self, name: str, content: bytes | str | dict | list):
    """Writes a file; dicts and lists as JSON."""
    path = self.home / name
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, dict | list):
      content = json.dumps(content)
    if isinstance(content, str):
      content = content.encode("utf-8", "surrogatepass")
    path.write_bytes(content)
    return path

  def edit(self, name: str, /, **changes):
    """Changes keys of a JSON file."""
    path = self.home / name
    return self.write(name, json.loads(path.read_text()) | changes)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Attack:
  """A bad input.

  Attributes:
    name: what is wrong.
    command: what follows launch.py; <good> and <root> stand for the folders of
      good inputs and of the repository.
    build: writes the input into the scene.
    ends: how the run must end.
    says: regular expression that the line of a refusal contains.
    writes: paths below which a result's new files may be.
    changes: paths of files that a result may change.
    check: looks at the result.
    file_bytes: the size at which writing a file fails.
  """

  name: str
  command: tuple[str, ...]
  build: Callable[[Scene], object] = lambda scene: None
  ends: str = REFUSED
  says: str = ""
  writes: tuple[str, ...] = ("out",)
  changes: tuple[str, ...] = ()
  check: Callable[[Scene, program.Outcome], None] | None = None
  file_bytes: int | None = None

  @property
  def words(self) -> str:
    """The command without its flags: 'data build'."""
    words = [word for word in self.command[:2] if re.fullmatch("[a-z-]+", word)]
    groups = words[0] in ("data", "evaluate")
    return " ".join(words if groups else words[:1])


def run(attack: Attack, scene: Scene, launch: program.Program) -> None:
  """Runs an attack and asserts what must hold."""
  attack.build(scene)
  before = listing(scene.home)
  outcome = launch.run(
    scene.command(attack.command),
    scene.home,
    stand_in="measures" if attack.command[0] == "evaluate" else "",
    file_bytes=attack.file_bytes,
  )
  check_manners(outcome)
  after = listing(scene.home)
  assert outcome.code in _CODES[attack.ends], str(outcome)
  if outcome.code:
    line = one_line(outcome)
    assert re.search(attack.says, line), line
  check_nothing_lost(
    before, after, may_write=attack.writes, may_change=attack.changes
  )
  if attack.check is not None:
    attack.check(scene, outcome)


def check_manners(outcome: program.Outcome) -> None:
  """Time and memory, and no one else was reached."""
  assert not outcome.timed_out, str(outcome)
  assert outcome.peak_bytes < program.BYTES, str(outcome)
  assert not outcome.left_processes, str(outcome)
  reached = [r for r in outcome.reached if not any(a in r for a in _ALLOWED)]
  assert not reached, reached
  left = [
    name
    for name in os.listdir(outcome.streams / "tmp")
    if not name.endswith(_TFDS)
  ]
  assert not left, left


def one_line(outcome: program.Outcome) -> str:
  """The line of a refusal."""
  lines = [x.strip() for x in re.split(r"[\r\n]", outcome.stderr)]
  lines = [x for x in lines if x and not _BAR.search(x)]
  for line in lines:
    assert len(line) <= LONGEST_LINE, f"{len(line)} characters: {line[:300]}"
  # Of many objects each that cannot be used has a line, too.
  lines = [x for x in lines if not x.startswith(_REMARKS)]
  assert len(lines) == 1, str(outcome)
  (line,) = lines
  assert line.startswith("error: "), line
  return line


def check_nothing_lost(
  before: dict[str, str],
  after: dict[str, str],
  *,
  may_write: tuple[str, ...],
  may_change: tuple[str, ...] = (),
) -> None:
  """What was there is there; what is new is where it may be."""
  lost = [
    path
    for path, content in before.items()
    if after.get(path) != content and path not in may_change
  ]
  assert not lost, f"lost or changed: {lost[:5]}"
  # A folder for the result may have been made, to see whether it can be.
  new = [
    path
    for path, content in after.items()
    if path not in before
    and content != "folder"
    and not any(f"{path}/".startswith(f"{place}/") for place in may_write)
  ]
  assert not new, f"new files: {new[:5]}"


def listing(home: pathlib.Path) -> dict[str, str]:
  """What every path below a folder is, without following links."""
  found = {}
  for folder, folders, files in os.walk(home):
    for name in (*folders, *files):
      path = pathlib.Path(folder, name)
      mode = path.lstat().st_mode
      if stat.S_ISLNK(mode):
        content = f"link to {os.readlink(path)}"
      elif stat.S_ISDIR(mode):
        content = "folder"
      elif stat.S_ISREG(mode):
        content = hashlib.sha256(path.read_bytes()).hexdigest()
      else:
        content = "special"
      found[str(path.relative_to(home))] = content
  return found
