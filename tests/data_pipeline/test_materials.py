import numpy as np
import pytest

from data_pipeline import materials


def _patch(spacing=0.0085, size=128):
  """A flat patch facing +x, sampled as finely as the renderer does."""
  z, y = np.mgrid[:size, :size].astype(np.float32) * spacing
  points = np.stack([np.full_like(y, 0.31), y, z], -1).reshape(-1, 3)
  return points, np.tile(np.float32([1, 0, 0]), (size**2, 1))


def _sphere(count=4096):
  normals = np.random.default_rng(1).normal(size=(count, 3))
  normals /= np.linalg.norm(normals, axis=-1, keepdims=True)
  normals = normals.astype(np.float32)
  return 0.6 * normals, normals


_ALL = [(m.name, c) for m in materials.MATERIALS.values() for c in m.colors]


@pytest.mark.parametrize(("name", "color"), _ALL)
def test_materials_are_textured_and_finite(name, color):
  points, normals = _sphere()
  rgb = materials.evaluate(name, color, points=points, normals=normals)
  assert rgb.shape == points.shape
  assert rgb.dtype == np.float32
  assert (rgb >= 0).all() and (rgb <= 1).all()
  assert rgb.std(0).max() > 0.035
  mean = materials.mean_color(name, color)
  np.testing.assert_allclose(mean, rgb.mean(0), atol=0.02)


@pytest.mark.parametrize("name", materials.MATERIALS)
def test_texture_survives_averaging_into_pixels(name):
  color = materials.MATERIALS[name].colors[0]
  points, normals = _patch()
  rgb = materials.evaluate(name, color, points=points, normals=normals)
  # Pixels of 2x2 samples, 128 px across the ball's image.
  image = rgb.reshape(64, 2, 64, 2, 3).mean((1, 3))
  assert image.std((0, 1)).max() > 0.025


@pytest.mark.parametrize("name", materials.MATERIALS)
def test_colour_depends_on_the_place_alone(name):
  color = materials.MATERIALS[name].colors[-1]
  points, normals = _sphere(500)
  rgb = materials.evaluate(name, color, points=points, normals=normals)
  order = np.random.default_rng(2).permutation(500)
  shuffled = materials.evaluate(
    name, color, points=points[order], normals=normals[order]
  )
  np.testing.assert_allclose(shuffled, rgb[order], atol=1e-6)


@pytest.mark.parametrize("name", materials.MATERIALS)
def test_colours_of_one_material_can_be_told_apart(name):
  means = [
    materials.mean_color(name, c) for c in materials.MATERIALS[name].colors
  ]
  pairs = [
    np.linalg.norm(np.subtract(a, b))
    for i, a in enumerate(means)
    for b in means[:i]
  ]
  assert min(pairs) > 0.1
