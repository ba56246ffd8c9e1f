"""Where diffusers' Flax classes are missing: one line, and no model is read.

What they compute is tested by `make test-flax-providers`.
"""

import importlib

import pytest

from mvjax.generation import request as requests
from mvjax.models import diffusers_flax

MISSING = r"has no Flax.*pip install -r requirements-flax-providers.txt"


@pytest.fixture
def no_flax(monkeypatch):
  """As in an environment without the extra."""

  def refuse(name):
    raise ModuleNotFoundError(name)

  monkeypatch.setattr(importlib, "import_module", refuse)


def test_the_remedy_is_named(no_flax, tmp_path):
  """Not the folder, which is missing as well."""
  with pytest.raises(ValueError, match=MISSING) as error:
    diffusers_flax.load(tmp_path / "nothing")
  assert "\n" not in str(error.value)


def test_a_request_is_refused_before_its_models_are_read(no_flax, tmp_path):
  (tmp_path / "model.ckpt").touch()
  request = requests.Request(
    prompts=("a sofa",),
    out=str(tmp_path / "out"),
    multiview=str(tmp_path / "model.ckpt"),
    image=str(tmp_path / "model.ckpt"),
    image_provider="diffusers",
  )
  with pytest.raises(ValueError, match=MISSING):
    requests.validate(request)
  assert not (tmp_path / "out").exists()
