"""What must be alike between a checkpoint and the process that goes on."""

import json

import pytest

from configs import base
from mvjax.training import record, resumable
from tests.training import small


def described(config):
  return {
    "config": record.as_json(config),
    "data": {"main": {"records": 5, "looks": ["full"]}},
  }


def check(before, config, data, weights=None):
  resumable.check_resumable(
    before,
    config=record.as_json(config),
    fingerprint={"main": data},
    weights=weights or {},
  )


def test_every_differing_field_is_listed():
  config = small.config("vae")
  before = described(config)
  with config.unlocked():
    config.optimizer.learning_rate = 0.5
    config.vae.latent_channels = 7
    config.train.max_minutes = 3.0
  with pytest.raises(ValueError) as error:
    check(before, config, {"records": 6, "looks": ["full"]})
  for name in ("learning_rate=0.001 (now 0.5)", "latent_channels", "records=5"):
    assert name in str(error.value)
  assert "max_minutes" not in str(error.value)


def test_weights_may_move_and_may_not_change():
  config = small.config("vae", init_from="here")
  # The unet is trained, so nobody asks for it; older versions wrote it down.
  before = described(config) | {
    "weights": {"vae": "1", "tokenizer": "2", "unet": "3"}
  }
  config.train.init_from = "there"
  data = before["data"]["main"]
  check(before, config, data, {"vae": "1", "tokenizer": "2"})
  for now in ("4", ""):
    weights = {"vae": "1", "tokenizer": now}
    name = f"train.init_from/tokenizer='2' .now '{now}'"
    with pytest.raises(ValueError, match=name):
      check(before, config, data, weights)
    with pytest.raises(ValueError, match=f"init_from=here: .* {name}"):
      resumable.check_weights(before, weights)


@pytest.mark.parametrize(
  "task, train, rates, parts",
  [
    ("vae", {}, {}, []),
    ("vae", {"freeze_encoder": True}, {}, ["vae"]),
    ("image", {}, {}, ["tokenizer", "vae"]),
    ("image", {}, {"text_encoder": 0.0}, ["text_encoder", "tokenizer", "vae"]),
    ("multiview", {}, {}, ["text_encoder", "tokenizer", "vae"]),
    (
      "multiview",
      {},
      {"unet": 0.0},
      ["text_encoder", "tokenizer", "unet", "vae"],
    ),
  ],
  ids=str,
)
def test_what_is_not_trained_is_hashed(
  model_folders, task, train, rates, parts
):
  config = small.config(task, init_from=model_folders["image"], **train)
  config.optimizer.groups.update(rates)
  found = record.weights_of(config)
  assert list(found) == parts and all(found.values())
  config.train.init_from = ""
  assert record.weights_of(config) == dict.fromkeys(parts, "")


def test_old_records_know_only_where_the_weights_were():
  config = small.config("vae", init_from="here")
  before = described(config)
  data = before["data"]["main"]
  check(before, config, data, {"vae": "1"})
  resumable.check_weights(before, {"vae": "1"})
  config.train.init_from = "there"
  with pytest.raises(ValueError, match="train.init_from='here'"):
    check(before, config, data, {"vae": "1"})


def test_a_constant_rate_may_run_longer_and_a_cosine_may_not():
  config = small.config("vae")
  for schedule, allowed in (("constant", True), ("cosine", False)):
    with config.unlocked():
      config.optimizer.schedule = schedule
      config.train.steps = 8
    before = described(config)
    with config.unlocked():
      config.train.steps = 80
    data = {"records": 5, "looks": ["full"]}
    if allowed:
      check(before, config, data)
    else:
      with pytest.raises(ValueError, match="train.steps=8"):
        check(before, config, data)


def test_a_field_that_an_old_run_did_not_know_had_its_default():
  """Whole fields only: a new entry of a mapping is another architecture."""
  config = record.as_json(small.config("vae"))
  defaults = record.as_json(base.get_config())
  old = json.loads(json.dumps(config))
  for section, field in (("train", "keep"), ("optimizer", "b1")):
    del old[section][field]
  del old["schedule"]
  old["epipolar"]["points"] = {"mid_block": 4}
  whole = resumable.complete(old, defaults)
  assert whole["epipolar"]["points"] == {"mid_block": 4}
  described = {"config": whole, "data": {}}

  def check(**adam):
    new = config | {"optimizer": config["optimizer"] | adam}
    new["epipolar"] = old["epipolar"]
    resumable.check_resumable(described, config=new, fingerprint={}, weights={})

  check()
  with pytest.raises(ValueError, match="optimizer.b1=0.9 .now 0.5"):
    check(b1=0.5)
