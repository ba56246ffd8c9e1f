"""The start-up's checks; runs of several are in tests/training."""

import jax
import pytest

from configs import base
from mvjax.parallel import processes


def section(**fields):
  config = base.get_config().processes
  with config.unlocked():
    config.update(fields)
  return config


@pytest.mark.parametrize(
  "fields, message",
  [
    (dict(count=-1), "processes.count=-1"),
    (dict(count=2, index=2, coordinator="a:1"), "processes.index=2"),
    (dict(count=2), "processes.coordinator='': several"),
    (dict(timeout_seconds=0), "processes.timeout_seconds=0"),
  ],
  ids=str,
)
def test_wrong_fields_are_named(fields, message):
  with pytest.raises(ValueError, match=message):
    processes.start(section(**fields))


def test_one_process_needs_nothing():
  processes.start(section())
  assert not jax.distributed.is_initialized()
  assert processes.is_first() and processes.gathered(7) == [7]
