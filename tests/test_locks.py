"""Two runs on one folder."""

import pathlib
import signal
import subprocess
import sys

import pytest

from mvjax import locks
from mvjax.parallel import processes
from mvjax.training import loop
from tests.training import small

ROOT = pathlib.Path(__file__).parents[1]
HOLDER = """
import sys, time
from mvjax import locks
with locks.only_run(sys.argv[1], "out"):
  print("held", flush=True)
  time.sleep(600)
"""


@pytest.fixture
def holder(tmp_path):
  """Another process that is a run on tmp_path / 'out'."""
  command = [sys.executable, "-c", HOLDER, str(tmp_path / "out")]
  with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as process:
    assert process.stdout.readline() == b"held\n"
    yield process
    process.kill()


def test_the_second_run_is_told_so_until_the_first_is_gone(
  tmp_path, holder, launch_py, capsys
):
  out = tmp_path / "out"
  sample = "sample", "--config=configs/nano.py", "--prompt=a sofa"
  assert launch_py(*sample, f"--out={out}") == 2
  line = capsys.readouterr().err
  assert line.startswith(f"error: out={out}: another run is writing there")
  assert line.count("\n") == 1
  with pytest.raises(ValueError, match="workdir=.*out: another run is writing"):
    loop.train(small.config("vae"), out)
  assert [path.name for path in out.iterdir()] == [".lock"]
  holder.send_signal(signal.SIGKILL)
  holder.wait()
  with locks.only_run(out, "out"):
    pass
  assert not list(out.iterdir())


def test_all_processes_of_a_run_are_told(tmp_path, monkeypatch):
  """The first one knows; nobody waits for it in vain."""
  asked = []
  monkeypatch.setattr(processes, "is_first", lambda: False)
  monkeypatch.setattr(
    processes, "gathered", lambda value: asked.append(value) or [1, value]
  )
  with pytest.raises(ValueError, match="out=.*another run is writing there"):
    with locks.only_run(tmp_path, "out"):
      pass
  assert asked == [False]


def test_a_lock_whose_file_is_gone_is_not_taken_for_one(tmp_path, monkeypatch):
  """Another run may remove the file while this one waits to lock it."""

  def remove(file, how):
    (tmp_path / ".lock").unlink()

  monkeypatch.setattr(locks.fcntl, "flock", remove)
  with pytest.raises(ValueError, match="another run"):
    with locks.only_run(tmp_path, "out"):
      pass
