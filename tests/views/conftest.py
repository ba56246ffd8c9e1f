"""What these tests look at."""

import fake_assets
import pytest


@pytest.fixture
def ball():
  return fake_assets.ball(4, size=16)
