"""Many objects, some of which would stop a lesser run."""

import json
import math
import multiprocessing
import os
import pathlib
import re
import signal
import sys
import threading

import fake_objects
import pytest
import trimesh

from data_pipeline import render, render_run, shards

_TINY = render.RenderSettings(image_size=16, orbits=1, clusters=0, variants=1)


@pytest.fixture
def make(tmp_path):
  """Makes objects: a ball, a file that is no model, one that never ends."""

  def of(kind, name):
    path = tmp_path / "in" / f"{name}.obj"
    if kind == "ball":
      fake_objects.write_mesh(path, trimesh.creation.icosphere(subdivisions=1))
    path.parent.mkdir(exist_ok=True)
    if kind == "broken":
      path.write_text("f 1 2 3\n")
    if kind == "huge":
      with path.open("wb") as file:
        file.truncate(3 * 2**30)  # takes no room on the disk
    if kind == "endless":
      os.mkfifo(path)  # reading it waits for a writer
    return fake_objects.thing(path)

  return of


def run(things, out, **options):
  return render_run.render_all(
    things, out, **{"settings": _TINY, "workers": 1, **options}
  )


def test_what_fails_is_put_in_quarantine_and_what_is_done_is_kept(
  make, tmp_path
):
  things = [make("broken", "bad"), make("missing", "gone"), make("ball", "a")]
  out = tmp_path / "out"
  (out / f".{things[2].id}-leftover").mkdir(parents=True)
  (out / ".of-another-worker-x").mkdir()
  failures = run(things, out)
  assert list(failures) == ["bad.obj", "gone.obj"]
  assert "bad.obj" in failures["bad.obj"]
  assert "No such file" in failures["gone.obj"]
  names = {path.name for path in out.iterdir()}
  assert names == {
    things[2].id,
    "settings.json",
    "quarantine.jsonl",
    ".of-another-worker-x",
  }
  with (out / "quarantine.jsonl").open("a") as file:
    file.write('{"uid": "a.o')  # a worker was killed here

  before = (out / things[2].id / "meta.json").stat().st_mtime_ns
  kept = (out / "quarantine.jsonl").read_text()
  assert run(things, out) == failures
  assert (out / things[2].id / "meta.json").stat().st_mtime_ns == before
  assert (out / "quarantine.jsonl").read_text() == kept

  make("ball", "gone")
  assert list(run(things, out, retry=True)) == ["bad.obj"]
  assert (out / things[1].id).is_dir()


def test_an_object_that_never_ends_is_killed(make, tmp_path):
  things = [make("endless", "e"), make("ball", "a")]
  failures = run(things, tmp_path / "out", time_limit=20.0, workers=2)
  assert failures == {
    "e.obj": "needs more than 20 s; raise time_limit or simplify the model"
  }
  assert (tmp_path / "out" / things[1].id).is_dir()


@pytest.mark.skipif(sys.platform != "linux", reason="others set no limit")
def test_an_object_that_wants_all_memory_is_refused_it(make, tmp_path):
  things = [make("huge", "h"), make("ball", "a")]
  failures = run(things, tmp_path / "out", memory_limit=1.0)
  assert failures == {
    "h.obj": "needs more than 1 GiB of memory; raise memory_limit or simplify "
    "the model"
  }
  assert (tmp_path / "out" / things[1].id).is_dir()


def test_an_object_that_kills_its_process_stops_nobody_else(make, tmp_path):
  things = [make("endless", "e"), make("ball", "a")]

  def kill_its_reader():
    with open(things[0].model, "w"):  # opens when the worker reads
      (worker,) = multiprocessing.active_children()
      assert worker.pid is not None
      os.kill(worker.pid, signal.SIGKILL)

  killer = threading.Thread(target=kill_its_reader)
  killer.start()
  failures = run(things, tmp_path / "out")
  killer.join()
  assert list(failures) == ["e.obj"]
  assert "died with exit code -9" in failures["e.obj"]
  assert (tmp_path / "out" / things[1].id).is_dir()


def test_machines_share_a_folder(make, tmp_path):
  things = [make("ball", f"o{i}") for i in range(2)] + [make("broken", "bad")]
  out = tmp_path / "out"
  (out / f".{things[1].id}-x").mkdir(parents=True)  # the other is at work
  first = run(things, out, shard=shards.Shard(index=0, count=2))
  assert list(first) == ["bad.obj"]
  names = {path.name for path in out.iterdir()}
  assert names == {
    things[0].id,
    f".{things[1].id}-x",
    "settings.json",
    "quarantine-00000-of-00002.jsonl",
  }
  # One machine that does everything knows what the parts found out.
  assert list(run(things, out)) == ["bad.obj"]
  assert json.loads((out / names_of_quarantine(out)).read_text())["uid"] == (
    "bad.obj"
  )


def names_of_quarantine(out):
  (path,) = out.glob("quarantine*")
  return path.name


def test_wrong_options_are_named(make, tmp_path):
  things = [make("ball", "a")]
  (tmp_path / "out").mkdir()
  for name, values in (
    ("workers", (0, -1)),
    ("time_limit", (0.0, -1.0, math.nan, math.inf)),
    ("memory_limit", (0.0, 0.5, math.nan, math.inf)),
  ):
    for value in values:
      with pytest.raises(ValueError, match=f"{name}={value}: must be"):
        run(things, tmp_path / "out", **{name: value})
  run([], tmp_path / "out")
  other = render.RenderSettings(image_size=32)
  with pytest.raises(ValueError, match=r"image_size=32: .* rendered with 16"):
    run(things, tmp_path / "out", settings=other)


def test_a_retry_is_of_this_part_whoever_failed(make, tmp_path):
  """Here the machine that did everything before; its file stays."""
  things = [make("broken", name) for name in ("a", "b")]
  out = tmp_path / "out"
  assert list(run(things, out)) == ["a.obj", "b.obj"]
  kept = (out / "quarantine.jsonl").read_text()
  make("ball", "a")
  make("ball", "b")
  part = shards.Shard(index=0, count=2)
  assert run(things, out, shard=part) != {}
  assert run(things, out, shard=part, retry=True) == {}
  assert (out / things[0].id).is_dir() and not (out / things[1].id).exists()
  assert (out / "quarantine.jsonl").read_text() == kept
  assert list(run(things, out)) == ["b.obj"]  # a folder is no failure


def test_settings_appear_whole(tmp_path, monkeypatch):
  """A machine that starts while another writes them never sees a part."""
  seen = []
  write = pathlib.Path.write_text

  def watched(path, text, **options):
    seen.append(path)
    return write(path, text, **options)

  monkeypatch.setattr(pathlib.Path, "write_text", watched)
  run([], tmp_path)
  assert seen and tmp_path / "settings.json" not in seen
  assert (tmp_path / "settings.json").exists()


def test_rows_that_are_none_are_passed_over(make, tmp_path):
  out = tmp_path / "out"
  out.mkdir()
  rows = ["null", "[1]", '"x"', '{"uid": 3}', "[" * 100_000, "\xff"]
  (out / "quarantine-old.jsonl").write_bytes(
    "\n".join([*rows, '{"uid": "bad.obj", "reason": "old"}']).encode("latin-1")
  )
  assert run([make("ball", "bad")], out) == {"bad.obj": "old"}


@pytest.mark.parametrize("text", ["", "null", "[]", "[" * 100_000])
def test_damaged_settings_are_one_line(tmp_path, text):
  (tmp_path / "settings.json").write_text(text)
  with pytest.raises(ValueError, match="settings.json: is ") as error:
    run([], tmp_path)
  assert "\n" not in str(error.value)


def test_a_file_in_the_place_of_the_folder_is_named(tmp_path):
  (tmp_path / "file").write_text("in the way")
  for place in ("file", "file/out"):
    with pytest.raises(ValueError, match=f"out=.*{place}: no folder"):
      run([], tmp_path / place)


@pytest.mark.parametrize(
  "arguments, words",
  [
    (["render", "--limit=-1"], "limit=-1: must be at least 1"),
    (["render", "--limit=0"], "limit=0: must be at least 1"),
    (["render", "--workers=0"], "workers=0: must be 1 to"),
    (["render", "--time_limit=nan"], "time_limit=nan: must be a number"),
    (["render", "--time_limit=inf"], "time_limit=inf: must be a number"),
    (["render", "--memory_limit=0"], "memory_limit=0.0: must be 1 GiB"),
    (["render", "--shard=3/3"], "shard='3/3': give INDEX/COUNT"),
    (["render", "--image_size=2000"], "image_size=2000: must be .* 1024"),
    (["render", "--objects=no/such"], "objects=no/such: no such folder"),
    (["build", "--renders=no/such"], "renders=no/such: no such folder"),
    (["build", "--captions=c.json"], "captions=c.json: is for a --layout"),
    (["encode", "--model=m", "--batch_size=0"], "batch_size=0: must be"),
  ],
  ids=lambda value: "" if isinstance(value, str) else value[-1],
)
def test_senseless_flags_are_one_line(
  launch_py, capsys, tmp_path, arguments, words
):
  command, *rest = arguments
  (tmp_path / "a.obj").write_text("")
  (tmp_path / "captions.csv").write_text("file,name\na.obj,Chair\n")
  given = {
    "render": (f"--objects={tmp_path}", "--captions=captions.csv"),
    "build": (f"--renders={tmp_path}",),
    "encode": (),
  }[command]
  out = tmp_path / "out"
  assert launch_py("data", command, f"--out={out}", *given, *rest) == 2
  line = capsys.readouterr().err
  assert line.startswith("error: ") and line.count("\n") == 1
  assert re.search(words, line) and not out.exists()
