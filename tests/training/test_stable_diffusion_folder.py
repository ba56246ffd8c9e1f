"""The multi-view task starts from a Stable Diffusion folder as published.

The folders are tiny but shaped like the real ones: SD 2.x with linear
projections and "!" as padding, SD 1.x without a scaling factor in the VAE's
config and with a scheduler of another class.
"""

import json
import pathlib
import shutil

import jax
import numpy as np
import pytest

from mvjax import diffusion, tokenizer
from mvjax.models import epipolar_mv, stable_diffusion
from mvjax.training import components, loop
from mvjax.training.tasks import registry
from tests import tiny_models
from tests.training import small


def config(folder, **unet):
  """A run whose networks are those of the tiny folders."""
  made = small.config("multiview", init_from=str(folder))
  with made.unlocked():
    made.vae.update(block_out_channels=(8, 16), norm_num_groups=4)
    made.unet.update(block_out_channels=(16, 32), norm_num_groups=4, **unet)
    made.data.image_size = tiny_models.IMAGE_SIZE
    made.schedule.update(prediction_type="epsilon")
    made.epipolar.points = dict(tiny_models.PLACES)
  return made


def change(path, **entries):
  """Sets entries of a JSON file; None removes one."""
  content = json.loads(path.read_text())
  for name, value in entries.items():
    content.pop(name, None)
    if value is not None:
      content[name] = value
  path.write_text(json.dumps(content))


@pytest.fixture(scope="module")
def folders(model_folders, tmp_path_factory):
  home = tmp_path_factory.mktemp("stable_diffusion")
  shutil.copytree(model_folders["image"], home / "sd15")
  change(home / "sd15/vae/config.json", scaling_factor=None)
  change(
    home / "sd15/scheduler/scheduler_config.json",
    _class_name="PNDMScheduler",
    skip_prk_steps=True,
    set_alpha_to_one=False,
    steps_offset=1,
  )
  tiny_models.write(home / "sd21", seed=2, linear=True, pad_token="!")
  return home


def make_task(made, workdir):
  stream = loop.open_streams(made)["main"]
  return registry.make(made, workdir=workdir, stream=stream)


@pytest.mark.parametrize("name", ["sd15", "sd21"])
def test_weights_and_words_are_those_of_the_folder(folders, name, tmp_path):
  made = config(folders / name, use_linear_projection=name == "sd21")
  task = make_task(made, tmp_path)
  source = stable_diffusion.FlaxStableDiffusion.load(folders / name)
  for part in ("text_encoder", "vae"):
    jax.tree.map(
      np.testing.assert_array_equal, task.frozen[part], source.params[part]
    )
  assert set(task.params) == {"unet"}
  jax.tree.map(
    np.testing.assert_array_equal,
    epipolar_mv.split_params(task.params["unet"])[0],
    source.params["unet"],
  )
  # Captions go through the folder's tokenizer, and none was learnt.
  words = tokenizer.Tokenizer.load(folders / name / "tokenizer")
  np.testing.assert_array_equal(task.frozen["empty"], words([""])[0])
  assert not (tmp_path / "tokenizer").exists()
  example = next(loop.open_streams(made)["main"].start(0))
  example["caption"] = [tiny_models.WORDS[0]] * len(example["caption"])
  batch = task.prepare(example)
  assert batch["ids"].shape[1] == words.length
  value, _ = jax.eval_shape(
    task.losses["main"], task.params, batch, jax.random.key(0), task.frozen
  )
  assert value.shape == ()


def test_a_missing_scaling_factor_is_that_of_stable_diffusion(folders):
  made = config(folders / "sd15")
  words = tokenizer.Tokenizer.load(folders / "sd15/tokenizer")
  model, _ = components.image_model(made, words)
  assert model.scaling_factor == 0.18215


@pytest.mark.parametrize(
  "changed, message",
  [
    (
      dict(prediction_type="v_prediction"),
      "schedule.prediction_type='v_prediction' .there 'epsilon'. is not",
    ),
    (dict(beta_end=0.02), "schedule.beta_end=0.02 .there 0.012. is not"),
    (
      dict(prediction_type="v_prediction", rescale_betas_zero_snr=True),
      "epsilon.*, rescale_betas_zero_snr=True .there False. is not",
    ),
    (dict(num_train_timesteps=500), "num_train_timesteps=500 .there 1000."),
  ],
  ids=str,
)
def test_another_noise_table_is_refused(folders, tmp_path, changed, message):
  made = config(folders / "sd15")
  made.schedule.update(changed)
  with pytest.raises(ValueError, match=message):
    make_task(made, tmp_path)


def test_a_noise_table_may_be_described_otherwise(folders, tmp_path):
  home = tmp_path / "listed"
  shutil.copytree(folders / "sd15", home)
  made = config(home)
  table = diffusion.NoiseSchedule.from_config(made.schedule.to_dict())
  change(
    home / "scheduler/scheduler_config.json",
    # Those of the config, beside a rule that is not.
    beta_end=0.5,
    trained_betas=table.betas.tolist(),
  )
  make_task(made, tmp_path)


def test_the_wrong_generation_is_refused(folders, tmp_path):
  made = config(folders / "sd21", use_linear_projection=False)
  with pytest.raises(ValueError, match="use_linear_projection=True, not False"):
    make_task(made, tmp_path)


def test_links_of_a_folder_are_replaced_by_files(tmp_path):
  """What they point to belongs to another model."""
  tiny_models.write(tmp_path / "one", seed=1)
  linked = ("vae", "tokenizer", "scheduler")
  for name in linked:
    (tmp_path / "other").mkdir(exist_ok=True)
    (tmp_path / "other" / name).symlink_to(tmp_path / "one" / name)
  before = {
    path: path.read_bytes()
    for path in (tmp_path / "one").rglob("*")
    if path.is_file()
  }
  tiny_models.write(
    tmp_path / "other", seed=2, pad_token="!", prediction="v_prediction"
  )
  assert all(path.read_bytes() == was for path, was in before.items())
  assert not any(path.is_symlink() for path in (tmp_path / "other").rglob("*"))


def test_shipped_models_have_no_links():
  shipped = pathlib.Path(__file__).parents[2] / "checkpoints"
  paths = list(shipped.rglob("*"))
  assert len(paths) > 20
  assert not any(path.is_symlink() for path in paths)
