"""No room left: one line, what is complete is kept, the command goes on.

A limit on the size of files stands for a full disk: any user can set it, and
worker processes inherit it.
"""

import contextlib
import errno
import os
import resource

import numpy as np
import pytest
import tensorstore
import trimesh

import launch
from data_pipeline import build
from mvjax import atomic
from mvjax.commands import command_line
from tests.data_pipeline import fake_objects, fake_renders
from tests.generation import test_samples


@contextlib.contextmanager
def room(size):
  """Files grow to so many bytes only."""
  soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
  resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
  try:
    yield
  finally:
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def check(capsys, code, out):
  """One line that names the folder and says what to do."""
  assert code == launch.CANNOT_WRITE
  line = capsys.readouterr().err.splitlines()[-1]
  assert line.startswith(f"error: out={out}: {os.strerror(errno.EFBIG)}")
  assert "make room" in line and "repeat the command" in line


def test_a_picture_is_whole_or_as_it_was(tmp_path, launch_py, capsys):
  test_samples.write(tmp_path, count=4)
  out = tmp_path / "figures" / "x.png"
  figure = "figure", f"mv={tmp_path}", f"--out={out}"
  assert launch_py(*figure) == 0
  before = out.read_bytes()
  with room(50):
    check(capsys, launch_py(*figure), out)
  assert out.read_bytes() == before and len(list(out.parent.iterdir())) == 1


def test_objects_are_not_to_blame_for_a_full_disk(tmp_path, launch_py, capsys):
  ball = trimesh.creation.icosphere(subdivisions=1)
  fake_objects.write_mesh(tmp_path / "objects" / "ball.obj", ball)
  (tmp_path / "objects" / "captions.csv").write_text("file,name\nball.obj,x\n")
  out = tmp_path / "renders"
  render = [
    "data",
    "render",
    f"--objects={tmp_path}/objects",
    "--captions=captions.csv",
    f"--out={out}",
    "--image_size=16",
    "--workers=1",
    "--limit=1",
  ]
  with room(1000):
    check(capsys, launch_py(*render), out)
  assert not list(out.glob("quarantine*"))
  assert launch_py(*render) == 0
  assert len(list(out.glob("*/meta.json"))) == 1


def test_a_data_set_is_whole_or_not_there(tmp_path):
  renders = fake_renders.write(tmp_path / "renders")
  with room(2000), pytest.raises(Exception) as error:
    build.build_renders(renders, tmp_path / "data")
  line = command_line.explain(error.value, {"out": "data"})
  assert line.startswith(f"out=data: {os.strerror(errno.EFBIG)}")
  assert not list(tmp_path.glob("data/renders/1.0.0"))
  build.build_renders(renders, tmp_path / "data")
  assert list(tmp_path.glob("data/renders/1.0.0/*"))


def test_what_checkpoints_are_written_with_is_understood(tmp_path):
  spec = {
    "driver": "zarr3",
    "kvstore": {"driver": "file", "path": f"{tmp_path}/array"},
  }
  values = np.random.default_rng(0).bytes(100_000)
  array = np.frombuffer(values, np.uint8)
  with room(2000), pytest.raises(Exception) as error:
    tensorstore.open(
      spec, create=True, dtype=tensorstore.uint8, shape=array.shape
    ).result().write(array).result()
  line = command_line.explain(error.value, {"workdir": "run"})
  assert line.startswith("workdir=run: ") and "make room" in line
  assert "\n" not in line


@pytest.mark.parametrize("code", sorted(atomic.FULL))
def test_causes_are_found_through_what_libraries_make_of_them(code):
  cause = OSError(code, os.strerror(code), "/x/file")
  error = RuntimeError("cannot save")
  error.__cause__ = cause
  line = command_line.explain(error, {"out": "o"})
  assert line.startswith(f"out=o: {os.strerror(code)} (/x/file); make room")


def test_other_errors_of_files_are_a_line_and_bugs_are_not():
  denied = PermissionError(errno.EACCES, os.strerror(errno.EACCES), "/x/file")
  line = command_line.explain(denied, {"out": "o"})
  assert line == "/x/file: Permission denied"
  assert command_line.explain(KeyError("x"), {"out": "o"}) is None
