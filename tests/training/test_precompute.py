"""A data set of latents trains as the renders do, without the encoders."""

import dataclasses
import pathlib
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny_models

from configs import nano
from data_pipeline import build, loader, shards
from mvjax.training import data, precompute
from mvjax.training.tasks import denoising, registry
from tests.data_pipeline import fake_renders

LOOKS = ("simplified", "retextured")


@pytest.fixture(scope="module")
def home(model_folders, tmp_path_factory):
  root = tmp_path_factory.mktemp("latents")
  renders = fake_renders.write(root / "renders")
  for index in range(2):
    build.build_renders(
      renders, root / "data", shard=shards.Shard(index=index, count=2)
    )
  shutil.copytree(model_folders["image"], root / "model")
  scheduler = root / "model/scheduler/scheduler_config.json"
  scheduler.write_text(scheduler.read_text().replace("epsilon", "v_prediction"))
  encode(root, root / "latents", looks=LOOKS)
  return root


def encode(root, out, **options):
  return precompute.encode_data_set(
    root / "data", root / "model", out=out, batch_size=5, **options
  )


def config(root, path, task="multiview"):
  made = nano.get_config(f"{task},runlocal")
  with made.unlocked():
    made.text_encoder.max_position_embeddings = 12
    made.unet.attention_levels = (False, False)
    made.data.update(
      source="renders", path=str(path), image_size=16, looks=("simplified",)
    )
    made.train.update(init_from=str(root / "model"), batch_size=2)
  return made


def stream(made):
  opened = data.open_stream(
    made.data, batch_size=made.train.batch_size, seed=made.seed
  )
  precompute.check_latents(made, opened.fingerprint)
  return opened


def test_batches_hold_the_posteriors_of_the_same_views(home):
  model = precompute.loading.load(home / "model")

  @jax.jit
  def encoded_by(params, images, ids):
    posterior = model.vae.apply(
      {"params": params["vae"]}, images, method="encode"
    )
    return *posterior, model.encode_text(params, ids)

  settings = loader.LoaderSettings(
    path=str(home / "data"), looks=("simplified",), num_views=3, batch_size=2
  )
  encoded = dataclasses.replace(settings, path=str(home / "latents"))
  for step in (0, 3):
    pixels = loader.dataset(settings)[step]
    batch = loader.dataset(encoded)[step]
    assert pixels["uid"].tolist() == batch["uid"].tolist()
    assert pixels["caption"].tolist() == batch["caption"].tolist()
    for name, value in pixels["camera"].items():
      np.testing.assert_array_equal(value, batch["camera"][name])
    mean, log_variance, text = encoded_by(
      model.params,
      pixels["image"].reshape(-1, 16, 16, 3),
      model.tokenizer([str(c) for c in pixels["caption"]]),
    )
    found = batch["posterior"].reshape(-1, *mean.shape[1:-1], 8)
    np.testing.assert_allclose(found[..., :4], mean, atol=5e-3)
    np.testing.assert_allclose(found[..., 4:], log_variance, atol=5e-3)
    np.testing.assert_allclose(batch["text"], text, atol=5e-3)


def test_the_network_is_trained_on_the_same_arrays(home, tmp_path, monkeypatch):
  """Same batch, same key: only float16 is between them."""
  seen = []

  def errors(model, params, *, latents, text, **others):
    del model, params, others
    seen.append((latents, text))
    return jnp.zeros(())

  monkeypatch.setattr(denoising, "denoising_errors", errors)
  streams = {
    name: stream(config(home, home / name)) for name in ("data", "latents")
  }
  task = registry.make(
    config(home, home / "data"), workdir=tmp_path, stream=streams["data"]
  )

  @jax.jit
  def arrays(params, batch, frozen):
    task.losses["main"](params, batch, jax.random.key(0), frozen)
    return seen.pop()

  found = []
  for name, opened in streams.items():
    batch = task.prepare(next(opened.start(1)))
    assert ("image" in batch) == (name == "data")
    found.append(arrays(task.params, batch, task.frozen))
  for pixels, encoded in zip(*found, strict=True):
    np.testing.assert_allclose(pixels, encoded, atol=5e-3)
    assert np.std(pixels) > 0.1


def test_latents_are_drawn_anew_at_every_visit(home):
  """With all that is drawn from the posterior, and nothing else, changed."""
  made = config(home, home / "latents")
  opened = stream(made)
  batch = next(opened.start(0))
  model = precompute.loading.load(home / "model")
  shape = (*batch["posterior"].shape[:-1], 4)

  @jax.jit
  @jax.vmap
  def draw(seed):
    noise = jax.random.normal(jax.random.key(seed), shape)
    return denoising.latents_of(model, {}, batch=batch, noise=noise)

  draws = draw(jnp.arange(400))
  mean, log_variance = np.split(batch["posterior"], 2, axis=-1)
  spread = np.std(draws, 0) / model.scaling_factor
  np.testing.assert_allclose(spread, np.exp(log_variance / 2), rtol=0.2)
  centre = np.mean(draws, 0) / model.scaling_factor
  assert np.abs((centre - mean) / spread).max() < 5 / np.sqrt(400)


def test_what_is_finished_is_kept_and_what_is_broken_leaves_nothing(
  home, tmp_path
):
  written = encode(
    home, tmp_path, looks=LOOKS, shard=shards.Shard(index=1, count=2)
  )
  assert [path.parent.parent.name for path in written] == ["00001-of-00002"]
  before = {path: path.stat().mtime for path in written[0].iterdir()}
  shutil.move(home / "data" / "00000-of-00002", tmp_path / "away")
  try:
    with pytest.raises(ValueError, match="parts are missing"):
      encode(home, tmp_path, looks=LOOKS)
  finally:
    shutil.move(tmp_path / "away", home / "data" / "00000-of-00002")
  assert len(encode(home, tmp_path, looks=LOOKS)) == 2
  assert before == {path: path.stat().mtime for path in written[0].iterdir()}
  with pytest.raises(ValueError, match="something else"):
    encode(home, tmp_path, looks=("simplified",))


def test_other_encoders_and_other_tasks_are_refused(home, tmp_path):
  other = tmp_path / "model"
  tiny_models.write(other, seed=2)  # the same VAE, another text encoder
  for task in ("image", "multiview"):
    made = config(home, home / "latents", task)
    made.train.init_from = str(other)
    if task == "image":
      stream(made)  # trains its text encoder anyhow
    else:
      with pytest.raises(ValueError, match="another text_encoder"):
        stream(made)
  made = config(home, home / "latents", "image")
  file = next(pathlib.Path(other, "vae").glob("*.safetensors"))
  file.write_bytes(file.read_bytes() + b" ")
  made.train.init_from = str(other)
  with pytest.raises(ValueError, match="another vae"):
    stream(made)
  made = config(home, home / "latents", "vae")
  with pytest.raises(ValueError, match=r"image_size=16, crop=16|vae task"):
    stream(made)
  with pytest.raises(FileNotFoundError, match="no folder vae/"):
    precompute.model_digest(tmp_path)


def test_pixels_at_another_size_are_refused(home):
  settings = loader.LoaderSettings(
    path=str(home / "latents"), looks=LOOKS, batch_size=1
  )
  with pytest.raises(ValueError, match="image_size=8.*latents of .* 16 px"):
    loader.fingerprint(dataclasses.replace(settings, image_size=8))
  with pytest.raises(ValueError, match="crop=8"):
    loader.fingerprint(dataclasses.replace(settings, crop=8))
