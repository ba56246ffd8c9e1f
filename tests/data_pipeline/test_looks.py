import collections
import pathlib

import numpy as np

from data_pipeline import looks, materials, objects, raycast


def _view(part, albedo):
  n = len(part)
  rng = np.random.default_rng(0)
  normals = rng.normal(size=(n, 3))
  normals /= np.linalg.norm(normals, axis=-1, keepdims=True)
  return raycast.Hits(
    sample=np.arange(n),
    depth=np.ones(n, np.float32),
    points=rng.uniform(-1, 1, (n, 3)).astype(np.float32),
    normals=normals.astype(np.float32),
    part=np.asarray(part),
    albedo=np.asarray(albedo, np.float32),
  )


def _make(variants=2):
  # Part 0 has 3/4 of the hits and two shades of red; part 2 is never seen.
  part = np.repeat([0, 0, 0, 1, 3], [150, 150, 300, 150, 50])
  albedo = np.repeat(
    [[0.9, 0.1, 0.1], [0.7, 0.1, 0.1], [0.8, 0.1, 0.1], [0, 0, 1], [0, 1, 0]],
    [150, 150, 300, 150, 50],
    axis=0,
  )
  views = [_view(part[::2], albedo[::2]), _view(part[1::2], albedo[1::2])]
  thing = objects.Object(uid="u", name="Chair", model=pathlib.Path("none"))
  found = list(looks.looks(thing, views, variants=variants, seed=0))
  return views, [(look, [np.array(c) for c in look.colors]) for look in found]


def _colors(arrays):
  return np.unique(np.concatenate(arrays).round(3), axis=0)


def test_looks_and_their_order():
  _, found = _make()
  kinds = [look.look for look, _ in found]
  assert kinds == ["full", "simplified"] + 2 * ["retextured", "simplified"]
  for (rich, _), (plain, _) in zip(found[::2], found[1::2], strict=True):
    assert rich.captions == plain.captions
    assert rich.variant == plain.variant


def test_full_is_the_albedo_and_simplified_its_mean_by_part():
  views, found = _make()
  for view, full in zip(views, found[0][1], strict=True):
    np.testing.assert_array_equal(full, view.albedo)
  np.testing.assert_allclose(
    _colors(found[1][1]), [[0, 0, 1], [0, 1, 0], [0.8, 0.1, 0.1]], atol=2e-3
  )
  assert "a red chair" in found[0][0].captions


def test_a_material_covers_the_dominant_part_alone():
  views, found = _make()
  for number in (2, 4):
    (rich, textured), (_, flat) = found[number : number + 2]
    assert rich.variant is not None
    mean = materials.mean_color(rich.variant.material, rich.variant.color)
    for view, colors, plain in zip(views, textured, flat, strict=True):
      main = view.part == 0
      np.testing.assert_allclose(plain[main], [mean] * main.sum(), atol=1e-6)
      np.testing.assert_array_equal(plain[~main], view.albedo[~main])
      np.testing.assert_array_equal(colors[~main], view.albedo[~main])
      assert colors[main].std(0).max() > 0.03
    words = f"{rich.variant.color} {rich.variant.material}"
    assert all(words in caption for caption in rich.captions)


def test_variants_are_repeatable_distinct_and_even():
  counts = collections.Counter()
  for i in range(2000):
    chosen = looks.choose_variants(f"object {i}", count=3, seed=0)
    assert chosen == looks.choose_variants(f"object {i}", count=3, seed=0)
    assert len({v.material for v in chosen}) == 3
    assert all(
      v.color in materials.MATERIALS[v.material].colors for v in chosen
    )
    counts.update(v.material for v in chosen)
  even = 6000 / len(materials.MATERIALS)
  assert set(counts) == set(materials.MATERIALS)
  assert max(abs(c - even) for c in counts.values()) < 0.2 * even


def test_the_seed_changes_the_choice():
  a, b = (looks.choose_variants("u", count=3, seed=s) for s in (0, 1))
  assert a != b
