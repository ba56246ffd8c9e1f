"""What every refusal of a damaged input has in common."""

import pytest


def _listing(home):
  return {
    path: path.stat().st_mtime_ns if path.is_file() else None
    for path in sorted(home.rglob("*"))
  }


def check(read, home, *, names, reason):
  """One line of the promised types that names the input; nothing is written."""
  before = _listing(home)
  with pytest.raises((ValueError, FileNotFoundError), match=reason) as caught:
    read()
  message = str(caught.value)
  assert "\n" not in message and len(message) < 1000
  assert names in message
  assert _listing(home) == before
  return message
