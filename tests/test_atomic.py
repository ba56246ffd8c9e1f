"""What a reader sees while a file or folder is written."""

import errno
import os
import pathlib
import subprocess
import sys

import pytest

from mvjax import atomic

ROOT = pathlib.Path(__file__).parents[1]


def test_files_and_folders_take_their_place(tmp_path):
  for target in (tmp_path / "new/deep/file", tmp_path / "new/deep/file"):
    with atomic.replaced(target) as new:
      new.write_text(f"{target.exists()}")
  assert target.read_text() == "True"
  folder = tmp_path / "folder"
  for name in ("a", "b"):
    with atomic.replaced(folder) as new:
      new.mkdir()
      (new / name).touch()
  assert [path.name for path in folder.iterdir()] == ["b"]
  assert {path.name for path in tmp_path.iterdir()} == {"new", "folder"}


def test_a_failure_leaves_the_old_and_no_scraps(tmp_path):
  target = tmp_path / "file"
  target.write_text("old")
  with pytest.raises(KeyboardInterrupt), atomic.replaced(target) as new:
    new.write_text("half")
    raise KeyboardInterrupt
  assert target.read_text() == "old"
  assert list(tmp_path.iterdir()) == [target]


# Replaces the folder sys.argv[1], killing itself before the n-th call to the
# system that Python tells about; prints how often it was killed.
KILLED = """
import os, pathlib, signal, sys
from mvjax import atomic

target, exchanges = pathlib.Path(sys.argv[1]), sys.argv[2] == "exchanges"
if not exchanges:
  atomic._exchange = lambda new, target: False

def write(number):
  with atomic.replaced(target) as new:
    new.mkdir()
    for name in "ab":
      (new / name).write_text(str(number))

def whole():
  first, second = ((target / name).read_text() for name in "ab")
  return first == second

write(-1)
kills, status = 0, 1
while status:
  child = os.fork()
  if not child:
    calls = 0
    def count(event, arguments):
      global calls
      if event.startswith(("os.", "open", "ctypes.", "shutil.")):
        calls += 1
        if calls > kills:
          os.kill(os.getpid(), signal.SIGKILL)
    sys.addaudithook(count)
    write(kills)
    os._exit(0)
  status = os.waitpid(child, 0)[1]
  kills += bool(status)
  if not exchanges:
    old = target.with_name(".folder.mvjax-old")
    assert target.exists() or old.exists()
    atomic._put_back(target)
    assert not old.exists()
  assert whole(), kills
assert (target / "a").read_text() == str(kills)
print(kills)
"""


@pytest.mark.parametrize("way", ["exchanges", "renames"])
def test_a_folder_is_whole_whenever_its_writer_is_killed(tmp_path, way):
  """Without exchanges, when the next writer begins."""
  done = subprocess.run(
    [sys.executable, "-c", KILLED, str(tmp_path / "folder"), way],
    cwd=ROOT,
    capture_output=True,
    text=True,
    check=False,
  )
  assert done.returncode == 0, done.stderr
  assert int(done.stdout) > 10


def test_a_rename_that_fails_leaves_the_old_folder(tmp_path, monkeypatch):
  folder = tmp_path / "folder"
  folder.mkdir()
  (folder / "kept").touch()
  rename = pathlib.Path.rename

  def fail(self, target):
    if self.name == "new":
      raise OSError(errno.EIO, "broken disk")
    return rename(self, target)

  monkeypatch.setattr(pathlib.Path, "rename", fail)
  monkeypatch.setattr(atomic, "_exchange", lambda new, target: False)
  with pytest.raises(OSError, match="broken"), atomic.replaced(folder) as new:
    new.mkdir()
  assert [path.name for path in folder.iterdir()] == ["kept"]
  assert list(tmp_path.iterdir()) == [folder]


def test_other_kinds_are_never_replaced(tmp_path):
  folder, file, pipe = (tmp_path / name for name in ("folder", "file", "pipe"))
  folder.mkdir()
  (folder / "kept").touch()
  file.write_text("kept")
  os.mkfifo(pipe)
  with pytest.raises(ValueError, match="folder: is a folder, must be a file"):
    atomic.write_text(folder, "text")
  with pytest.raises(ValueError, match="file: is a file, must be a folder"):
    with atomic.replaced(file) as new:
      new.mkdir()
  with pytest.raises(ValueError, match="pipe: is no file"):
    atomic.write_text(pipe, "text")
  for path in (folder, pipe, os.devnull):
    with pytest.raises(ValueError, match=f"out={path}: is there and no file"):
      atomic.check_file(path, "out")
  assert file.read_text() == "kept" and (folder / "kept").exists()
  assert set(tmp_path.iterdir()) == {folder, file, pipe}
