"""Hub ids, against a hand-made cache; the network is never used."""

import pathlib
import shutil
import socket
from unittest import mock

import huggingface_hub
import pytest
from huggingface_hub import constants, errors

from mvjax.weights import folder, hub

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def cache(tmp_path, monkeypatch):
  """An empty cache, in offline mode, and the working directory beside it."""
  monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
  monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
  (tmp_path / "work").mkdir()
  monkeypatch.chdir(tmp_path / "work")
  return tmp_path / "cache"


def add(cache, name, *, branch="main", files=()):
  """A model in the hub's own layout; returns its snapshot folder."""
  home = cache / f"models--{name.replace('/', '--')}"
  snapshot = home / "snapshots" / COMMIT
  for file in files:
    (snapshot / file).parent.mkdir(parents=True, exist_ok=True)
    (snapshot / file).write_text("{}")
  (home / "refs").mkdir(parents=True, exist_ok=True)
  (home / "refs" / branch).write_text(COMMIT)
  return snapshot


WHOLE = (
  "unet/config.json",
  "unet/diffusion_pytorch_model.safetensors",
  "vae/diffusion_pytorch_model.fp16.safetensors",
)


def test_a_model_in_the_cache_is_found_offline(cache):
  snapshot = add(cache, "someone/model-1.5", files=WHOLE)
  assert hub.local_path("someone/model-1.5") == snapshot
  assert hub.local_path(f"someone/model-1.5@{COMMIT}") == snapshot


def test_revisions_are_apart(cache):
  snapshot = add(cache, "someone/model", branch="flax", files=WHOLE)
  assert hub.local_path("someone/model@flax") == snapshot
  with pytest.raises(FileNotFoundError, match="someone/model is.* cache"):
    hub.local_path("someone/model")


def test_an_existing_path_wins(cache):
  add(cache, "someone/model", files=WHOLE)
  pathlib.Path("someone/model").mkdir(parents=True)
  assert hub.local_path("someone/model") == pathlib.Path("someone/model")
  shutil.rmtree("someone")
  pathlib.Path("file.ckpt").touch()
  assert hub.local_path("file.ckpt") == pathlib.Path("file.ckpt")


@pytest.mark.parametrize(
  "source", ["model.ckpt", "/nowhere/model", "a/b/c", "../a", "a b/c"]
)
def test_what_is_no_id_is_a_missing_path(cache, source, monkeypatch):
  monkeypatch.setattr(huggingface_hub, "snapshot_download", mock.Mock())
  with pytest.raises(FileNotFoundError, match="does not exist"):
    hub.local_path(source)
  huggingface_hub.snapshot_download.assert_not_called()


@pytest.mark.parametrize(
  "present",
  [
    ["diffusion_pytorch_model.safetensors", "diffusion_flax_model.msgpack"],
    [
      "diffusion_pytorch_model.fp16.safetensors",
      "diffusion_flax_model.msgpack",
      "diffusion_pytorch_model.bin",
    ],
    ["diffusion_flax_model.msgpack", "diffusion_pytorch_model.bin"],
  ],
)
def test_one_set_of_weights_and_no_pickle_is_downloaded(
  cache, monkeypatch, present
):
  """Against a hub that serves what the patterns ask for."""
  repository = [
    "model_index.json",
    "unet/config.json",
    *(f"unet/{name}" for name in present),
    "safety_checker/pytorch_model.bin",
    "v1-5-pruned.ckpt",
  ]

  def download(name, *, revision, allow_patterns, **_):
    chosen = huggingface_hub.utils.filter_repo_objects(
      repository, allow_patterns=allow_patterns
    )
    return str(add(cache, name, branch=revision or "main", files=chosen))

  monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
  home = hub.local_path("someone/model")
  files = sorted(path.name for path in home.rglob("*") if path.is_file())
  assert files == ["config.json", present[0], "model_index.json"]
  assert folder.weight_files(home / "unet")[0].name == present[0]


@pytest.mark.parametrize(
  "error, reason",
  [
    (errors.GatedRepoError, "grant access"),
    (errors.RepositoryNotFoundError, "no such"),
    (errors.RevisionNotFoundError, "no revision v2"),
    (errors.HfHubHTTPError, "on the hub: two lines"),
  ],
)
def test_what_the_hub_refuses_is_one_line(cache, monkeypatch, error, reason):
  def download(*_, **__):
    raise error("two\nlines", response=mock.Mock())

  monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
  with pytest.raises(FileNotFoundError, match=reason) as caught:
    hub.local_path("someone/model@v2")
  assert "\n" not in str(caught.value)
  assert "someone/model@v2" in str(caught.value)


@pytest.fixture
def listener(monkeypatch):
  """A hub that takes connections and says nothing."""
  with socket.create_server(("127.0.0.1", 0)) as server:
    address = f"http://127.0.0.1:{server.getsockname()[1]}"
    monkeypatch.setattr(constants, "ENDPOINT", address)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(hub, "_PATIENCE", 0.2)
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
      monkeypatch.delenv(name, raising=False)
    yield server


def test_a_hub_that_says_nothing_is_not_waited_for(cache, listener):
  here = pathlib.Path.cwd() / "checkpoints/nano-mv"
  with pytest.raises(FileNotFoundError) as caught:
    hub.local_path("checkpoints/nano-mv")
  message = str(caught.value)
  assert message.startswith(f"checkpoints/nano-mv is neither here (no {here})")
  assert "the hub cannot be reached" in message and "\n" not in message
  snapshot = add(cache, "someone/model", files=WHOLE)
  assert hub.local_path("someone/model") == snapshot


def test_a_connection_that_fails_is_one_line(cache, listener, monkeypatch):
  listener.close()
  download = mock.Mock(side_effect=ConnectionError("no\nroute"))
  monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
  with pytest.raises(FileNotFoundError, match="on the hub: no route"):
    hub.local_path("someone/model")
  assert not download.call_args.kwargs["local_files_only"]
