"""Costs of records that can be added up by hand."""

import pytest

from mvjax import view_sets
from mvjax.evaluation import cost


def asset(record):
  return view_sets.Asset(
    name="ball",
    source="out",
    prompt="a ball",
    digest="0",
    num_views=4,
    has_cameras=True,
    record=record,
    read=lambda: None,
  )


def drawn(compiling, **record):
  seconds = {"condition": 1.0, "denoise": 6.0, "decode": 1.0}
  seconds["compile"] = compiling
  return asset({"seconds_of_batch": seconds, "batch_size": 4, **record})


def test_batches_that_made_programs_do_not_speak_for_the_others():
  figures = cost.figures(
    [
      drawn(30.0, peak_memory_bytes=9 * 2**30),
      drawn(0.0, peak_memory_bytes=2**30),
      drawn(0.0, peak_memory_bytes=2**30),
    ]
  )
  assert figures["seconds"].value == pytest.approx(2)
  assert figures["seconds"].num_assets == 2
  assert figures["peak memory (MiB)"].value == pytest.approx(1024)


def test_a_single_batch_is_told_without_its_programs():
  figures = cost.figures([drawn(30.0)])
  assert figures.keys() == {"seconds"}
  assert figures["seconds"].value == pytest.approx(2)


def test_folders_of_other_systems_have_no_cost():
  assert cost.figures([asset({})]) == {}
