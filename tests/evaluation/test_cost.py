"""Costs of records that can be added up by hand."""

import pytest

from mvjax.evaluation import cost
from mvjax.views import asset_views


def asset(record):
  return asset_views.Asset(
    name="ball",
    source="out",
    prompt="a ball",
    digest="0",
    num_views=4,
    has_cameras=True,
    record=record,
    read=lambda: None,
  )


def drawn(compiling, denoise=6.0, **record):
  seconds = {"condition": 1.0, "denoise": denoise, "decode": 1.0}
  seconds["compile"] = compiling
  return asset({"seconds_of_batch": seconds, "batch_size": 4, **record})


def test_batches_that_made_programs_do_not_speak_for_the_others():
  figures = cost.figures(
    [
      drawn(30.0, peak_memory_bytes=9 * 2**30),
      drawn(0.0, peak_memory_bytes=2**30),
      drawn(0.01, peak_memory_bytes=2**30),
    ]
  )
  assert figures["seconds"].value == pytest.approx(2)
  assert figures["seconds"].num_assets == 2
  assert figures["peak memory (MiB)"].value == pytest.approx(1024)


def test_assets_of_a_batch_are_one_measurement():
  alone = cost.figures([drawn(0.0), drawn(0.0)])["seconds"]
  assert (alone.value, alone.high, alone.num_assets) == (2, None, 2)
  slower = [drawn(0.0, denoise=10.0)]
  both = cost.figures([drawn(0.0), drawn(0.0), *slower, *slower])["seconds"]
  assert (both.value, both.num_assets) == (2.5, 4)
  # Two measurements of 2 and 3: t = 12.7 for one degree of freedom.
  assert both.high - both.value == pytest.approx(12.706 / 2, rel=1e-3)


def test_a_single_batch_is_told_without_its_programs():
  figures = cost.figures([drawn(30.0)])
  assert figures.keys() == {"seconds"}
  assert figures["seconds"].value == pytest.approx(2)


def test_folders_of_other_systems_have_no_cost():
  assert cost.figures([asset({})]) == {}
