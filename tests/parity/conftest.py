"""What PyTorch's libraries say of themselves is not an error of ours.

The tier runs with `make test-parity`, in an environment of its own.
"""

import pytest

NOTICES = (
  # transformers 5.15 builds its CLIP tokenizer so.
  "ignore:Deprecated in 0.9.0:DeprecationWarning",
  # The pipeline wants steps_offset=1 from every scheduler, also from one that
  # does not read it, such as the nano model's.
  "ignore:The configuration file of this scheduler:FutureWarning",
)


def pytest_collection_modifyitems(items):
  for item in items:
    for notice in NOTICES:
      item.add_marker(pytest.mark.filterwarnings(notice))
