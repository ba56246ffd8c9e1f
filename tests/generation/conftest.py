import json
import shutil

import pytest


@pytest.fixture(scope="session")
def fine_image_model(model_folders, tmp_path_factory):
  """The 2D model, as if trained on latents of twice the side."""
  folder = tmp_path_factory.mktemp("fine") / "image"
  shutil.copytree(model_folders["image"], folder)
  path = folder / "unet" / "config.json"
  config = json.loads(path.read_text())
  config["sample_size"] *= 2
  path.write_text(json.dumps(config))
  return str(folder)
