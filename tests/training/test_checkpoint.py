"""Checkpoints keep what they were given and refuse what does not fit."""

import json

import jax.numpy as jnp
import numpy as np
import pytest

from configs import base
from mvjax.training import checkpoint, record
from tests.training import small


def test_newest_are_kept_and_read_back(tmp_path):
  with checkpoint.Checkpoints(tmp_path, keep=2) as checkpoints:
    for step in (1, 2, 3):
      state = {"w": jnp.full(4, step, jnp.float32), "n": jnp.int32(step)}
      checkpoints.save(step, state, record={"positions": {"main": step}})
  with checkpoint.Checkpoints(tmp_path, keep=2) as checkpoints:
    assert checkpoints.latest == 3
    assert checkpoints.record() == {"positions": {"main": 3}}
    loaded = checkpoints.load({"w": jnp.zeros(4), "n": jnp.int32(0)})
  np.testing.assert_array_equal(loaded["w"], 3.0)
  assert sorted(p.name for p in tmp_path.iterdir()) == ["2", "3"]


def described(config):
  return {
    "config": record.as_json(config),
    "data": {"main": {"records": 5, "looks": ["full"]}},
  }


def check(before, config, data):
  checkpoint.check_resumable(
    before, config=record.as_json(config), fingerprint={"main": data}
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
  whole = checkpoint.complete(old, defaults)
  assert whole["epipolar"]["points"] == {"mid_block": 4}
  described = {"config": whole, "data": {}}

  def check(**adam):
    new = config | {"optimizer": config["optimizer"] | adam}
    new["epipolar"] = old["epipolar"]
    checkpoint.check_resumable(described, config=new, fingerprint={})

  check()
  with pytest.raises(ValueError, match="optimizer.b1=0.9 .now 0.5"):
    check(b1=0.5)
