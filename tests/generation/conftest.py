"""The tiny models, shared by the tests below."""

import pytest
import tiny_models


@pytest.fixture(scope="session")
def model_folders(tmp_path_factory):
  """Folders `image` and `multiview`."""
  return tiny_models.folders(tmp_path_factory.getbasetemp() / "tiny_models")
