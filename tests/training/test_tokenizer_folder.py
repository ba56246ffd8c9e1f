"""The tokenizer that a run learns, while several processes look for it."""

import pytest

from mvjax import tokenizer
from mvjax.parallel import processes
from mvjax.training import data
from mvjax.training.tasks import registry
from tests.training import small


def find(workdir):
  config = small.config("image")
  stream = data.Stream(
    start=lambda *_: iter(()),
    captions=lambda: ["a red ball", "a blue bird"],
    fingerprint={},
  )
  return registry.find_tokenizer(config, workdir=workdir, stream=stream)


def test_it_appears_whole(tmp_path, monkeypatch):
  """Killed while it is written: the next start does not load a part."""

  def save_a_part(_, folder):
    folder.mkdir()
    (folder / "vocab.json").write_text("{")
    raise KeyboardInterrupt

  with monkeypatch.context() as patch:
    patch.setattr(tokenizer.Tokenizer, "save", save_a_part)
    with pytest.raises(KeyboardInterrupt):
      find(tmp_path)
  assert not list(tmp_path.iterdir())
  made = find(tmp_path)
  assert (find(tmp_path)(["a red bird"]) == made(["a red bird"])).all()


def test_others_look_for_it_when_the_first_has_written(tmp_path, monkeypatch):
  """With a folder of its own, another process makes the same and keeps none."""
  shared, own = tmp_path / "shared", tmp_path / "own"
  shared.mkdir()
  own.mkdir()
  expected = find(shared)(["a red bird"])
  calls = []
  load = tokenizer.Tokenizer.load
  monkeypatch.setattr(
    tokenizer.Tokenizer, "load", lambda path: calls.append("load") or load(path)
  )
  monkeypatch.setattr(processes, "is_first", lambda: False)
  monkeypatch.setattr(processes, "meet", lambda _: calls.append("meet"))
  assert (find(shared)(["a red bird"]) == expected).all()
  assert calls == ["meet", "load"]
  assert (find(own)(["a red bird"]) == expected).all()
  assert not list(own.iterdir())
