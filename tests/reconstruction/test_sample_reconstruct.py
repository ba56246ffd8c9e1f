"""`launch.py sample --reconstruct`: what it makes, and what it makes again.

Sampling and fitting are replaced; folders, records and pages are real.
"""

import json
import sys

import numpy as np
import planted
import pytest
import trimesh

import launch
from mvjax.generation import run as generation
from mvjax.generation import samples
from mvjax.reconstruction import run, volume

_PROMPTS = ("a sofa", "a bed", "a bath")


class _Command:
  """The command line, with all that is costly replaced.

  Attributes:
    out: folder of the samples.
    sampled: prompts for which views were made.
    fitted: how many assets were tried.
    failures: by number of the try, what is raised in it.
  """

  def __init__(self, tmp_path, monkeypatch):
    self.out = tmp_path / "out"
    self.sampled, self.fitted, self.failures = [], 0, {}
    self._prompts = tmp_path / "prompts.txt"
    self._prompts.write_text("\n".join(_PROMPTS))
    self._asset, self._camera = planted.two_boxes(), planted.orbits(4)
    views = planted.views(self._asset, self._camera, size=32)
    self._images = np.rint((views.image + 1) * 127.5).astype(np.uint8)
    self._patch = monkeypatch
    monkeypatch.setattr(generation, "generate", self._generate)
    monkeypatch.setattr(run, "make", self._make)

  def __call__(self, *more):
    arguments = ["sample", "--config=configs/nano.py", *more]
    arguments += [f"--prompts={self._prompts}", f"--out={self.out}"]
    self._patch.setattr(sys, "argv", ["launch.py", *arguments])
    return launch.main()

  def _generate(self, config, request):
    self.out.mkdir(exist_ok=True)
    for prompt in request.prompts:
      thing = samples.Sample(prompt=prompt, seed=0)
      if not samples.is_finished(self.out, thing, settings={}):
        self.sampled.append(prompt)
        samples.write(
          self.out,
          thing,
          images=self._images,
          camera=self._camera,
          record={"settings": {}},
        )

  def _make(self, views, settings):
    self.fitted += 1
    if self.fitted in self.failures:
      raise self.failures[self.fitted]
    asset = self._asset
    return run.Result(
      field=volume.Field(values=0, occupancy=0, low=0, high=1),
      camera=self._camera,
      surface=trimesh.Trimesh(asset.vertices, asset.faces, process=False),
      asset=asset,
      record={
        "num_views": len(views.image),
        "image_size": 32,
        "undetermined": {"note": "guessed"},
      },
    )


@pytest.fixture
def command(tmp_path, monkeypatch):
  return _Command(tmp_path, monkeypatch)


def assets(command):
  return sorted(path.parent.name for path in command.out.glob("*/asset.glb"))


def test_every_sample_gets_its_asset_and_page(command, capsys):
  assert command("--reconstruct") == 0
  assert assets(command) == ["a-bath-0", "a-bed-0", "a-sofa-0"]
  for name in assets(command):
    page = (command.out / name / "index.html").read_text()
    assert "<model-viewer" in page
  records = list(command.out.glob("*/reconstruction.json"))
  compiled = [
    json.loads(p.read_text())["includes_compilation"] for p in records
  ]
  assert sorted(compiled) == [False, False, True]
  said = capsys.readouterr().out
  assert (command.out / "index.html").as_uri() in said


def test_without_the_flag_there_are_views_and_pages_only(command):
  assert command() == 0
  assert not assets(command)
  assert len(list(command.out.glob("*/index.html"))) == 3
  # Asked for later, assets are made of the views that are there.
  assert command("--reconstruct") == 0
  assert (len(command.sampled), command.fitted) == (3, 3)
  assert len(assets(command)) == 3


def test_an_interrupted_run_makes_what_is_missing(command):
  command.failures[2] = KeyboardInterrupt()
  with pytest.raises(KeyboardInterrupt):
    command("--reconstruct")
  assert assets(command) == ["a-bath-0"]
  before = (command.out / "a-bath-0" / "asset.glb").stat().st_mtime_ns
  assert command("--reconstruct") == 0
  assert len(assets(command)) == 3
  assert (command.out / "a-bath-0" / "asset.glb").stat().st_mtime_ns == before
  assert (len(command.sampled), command.fitted) == (3, 1 + 1 + 2)
  assert command("--reconstruct") == 0
  assert command.fitted == 4


def test_an_asset_that_fails_leaves_a_page_without_it(command, capsys):
  command.failures[1] = ValueError("view 2 shows nothing")
  assert command("--reconstruct") == 2
  assert "1 of 3 failed; a-bath-0: view 2" in capsys.readouterr().err
  assert assets(command) == ["a-bed-0", "a-sofa-0"]
  assert "<model-viewer" not in (
    (command.out / "a-bath-0" / "index.html").read_text()
  )
  assert "<model-viewer" in (
    (command.out / "a-bed-0" / "index.html").read_text()
  )


@pytest.mark.parametrize(
  "flag, message",
  [("--views=3", "3 views: reconstruction needs 4"), ("--views=0", "views=0")],
)
def test_too_few_views_are_refused_before_sampling(
  command, capsys, flag, message
):
  assert command("--reconstruct", flag) == 2
  assert message in capsys.readouterr().err
  assert not command.sampled
