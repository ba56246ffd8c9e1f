"""The reader of optimised programs, on programs small enough to count."""

import pathlib

import pytest

from mvjax.planning import hlo

PROGRAM = (pathlib.Path(__file__).parent / "program.hlo").read_text()


@pytest.fixture(scope="module")
def program():
  return hlo.Program(PROGRAM)


def test_loops_run_as_often_as_their_condition_says(program):
  assert program.multiplicity["body"] == 8
  assert program.multiplicity["sliced"] == 8
  assert program.multiplicity["main"] == 1


def test_cycles_are_multiplied_by_trip_counts(program):
  assert program.cycles() == 8 * 40 + 1000


def test_collectives_with_sizes_and_counts(program):
  """By the ring algorithm, group of n: (n - 1) / n of the whole array."""
  found = {(c.kind, c.group, c.bytes, c.count) for c in program.collectives()}
  assert found == {
    ("all-gather", 4, 4 * 400 * 3 // 4, 8),
    # Split into a start and a done: one.
    ("all-gather", 4, 4 * 400 * 3 // 4, 1),
    ("reduce-scatter", 2, 4 * 100 // 2, 1),
    ("collective-permute", 2, 4 * 100, 1),
  }


def test_slices_count_and_not_what_they_are_cut_from(program):
  """The loop's body moves a row, an index and the gathered rows."""
  row, gathered = 400, 1600
  body = row + row + 4 + (row + gathered)
  start, done, copy = 4 * 600, 4 * 400 + 4 * 500, 2 * 1600
  rest = start + done + copy + 2 * 400 + (200 + 400)
  expected = (8 * body + rest) / (body + rest)
  assert program.loop_factor() == pytest.approx(expected, rel=0.05)


@pytest.mark.parametrize(
  "shape, size",
  [
    ("f32[2,3]{1,0:T(8,128)}", 24),
    ("(bf16[4], pred[8], s32[])", 8 + 8 + 4),
    ("token[]", 0),
  ],
)
def test_sizes_of_shapes(shape, size):
  assert hlo.array_bytes(shape) == size


def test_instructions_are_counted_by_opcode(program):
  assert program.count("dynamic-slice") == 2
  assert program.count("gather") == 0


def test_a_text_without_entry_is_refused():
  with pytest.raises(ValueError, match="ENTRY"):
    hlo.Program("HloModule empty")
