"""Which assets of a set are measured."""

import pytest

from mvjax.views import choice


@pytest.mark.parametrize("count, limit", [(10, 3), (7, 7), (1000, 64)])
def test_a_limit_takes_one_of_every_equal_share(count, limit):
  chosen = choice.evenly(range(count), limit)
  shares = [int(place * limit / count) for place in chosen]
  assert shares == list(range(limit))


@pytest.mark.parametrize("limit", [None, 5, 99])
def test_a_limit_that_is_none_takes_all(limit):
  assert choice.evenly("views", limit) == list("views")
