"""Scores by CLIP; its pictures against transformers' image processor."""

import numpy as np
import pytest
import safetensors.numpy
import small_clip
import transformers
from PIL import Image

from mvjax.evaluation import clip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
  return small_clip.write(tmp_path_factory.mktemp("clip"))


@pytest.mark.parametrize("size", [(64, 64), (20, 20), (40, 70)])
def test_images_are_prepared_as_by_the_processor(size):
  """Its resizing of oblong pictures comes first: there the middle differs."""
  processor = transformers.CLIPImageProcessor(
    size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}
  )
  levels = np.random.default_rng(2).integers(0, 256, (*size, 3), np.uint8)
  levels = np.asarray(
    Image.fromarray(levels).resize(size[::-1], Image.Resampling.BILINEAR)
  )
  theirs = processor(Image.fromarray(levels), return_tensors="np")
  expected = theirs["pixel_values"][0].transpose(1, 2, 0)
  got = clip.prepare(levels / 127.5 - 1, 32)
  if size[0] == size[1]:
    np.testing.assert_allclose(got, expected, atol=1e-5)
  else:
    assert np.abs(got - expected).mean() < 0.3 * expected.std()


def test_scores_and_first_places():
  images = np.array([[1.0, 0.0], [0.6, 0.8], [-1.0, 0.0]])
  texts = np.array([[1.0, 0.0], [0.0, 1.0]])
  scores = clip.similarities(images, texts)
  np.testing.assert_allclose(scores, [[100, 0], [60, 80], [0, 0]])
  # A tie is not a first place.
  np.testing.assert_array_equal(
    clip.is_first(scores, np.array([0, 0, 0])), [True, False, False]
  )


def test_missing_parts_are_named(folder, tmp_path):
  with pytest.raises(FileNotFoundError, match="config.json"):
    clip.load(tmp_path)
  state = safetensors.numpy.load_file(folder / "model.safetensors")
  del state["visual_projection.weight"]
  for file in folder.iterdir():
    (tmp_path / file.name).write_bytes(file.read_bytes())
  safetensors.numpy.save_file(state, tmp_path / "model.safetensors")
  with pytest.raises(ValueError, match="visual_projection"):
    clip.load(tmp_path)
