import fake_renders
import numpy as np
import pytest

from data_pipeline import views
from mvjax import geometry


def draws(num_views, count=400, **shares):
  camera, group = fake_renders.rig()
  rng = np.random.default_rng(0)
  return [
    views.choose_views(
      rng,
      num_views,
      camera_to_world=np.asarray(camera.camera_to_world),
      group=np.array(group),
      **shares,
    )
    for _ in range(count)
  ]


def test_orbits_are_told_from_clusters_by_their_cameras():
  camera, group = fake_renders.rig()
  poses = np.asarray(camera.camera_to_world)
  orbits, clusters = views.split_groups(poses, np.array(group))
  assert [list(o) for o in orbits] == [[0, 1, 2, 3], [4, 5, 6, 7]]
  assert [list(c) for c in clusters] == [[8, 9, 10, 11]]
  tilted = poses.copy()
  tilted[0, 2, 3] += 0.1
  assert len(views.split_groups(tilted, np.array(group))[0]) == 1


def test_shares_decide_the_kind_of_views():
  kinds = [tuple(v // 4) for v in draws(4, orthogonal=0.5, nearby=0.25)]
  orbit = np.mean([k in ((0,) * 4, (1,) * 4) for k in kinds])
  cluster = np.mean([k == (2,) * 4 for k in kinds])
  assert orbit == pytest.approx(0.5, abs=0.08)
  assert cluster == pytest.approx(0.25, abs=0.08)
  assert {k[0] for k in kinds} == {0, 1, 2}


def test_a_single_view_is_any_view_and_views_never_repeat():
  single = draws(1, orthogonal=0.5, nearby=0.5)
  assert {int(v[0]) for v in single} == set(range(12))
  for chosen in draws(8, orthogonal=0.0, nearby=0.0):
    assert len(set(chosen)) == 8
  with pytest.raises(ValueError, match="no orbit has that many views"):
    draws(5, orthogonal=1.0, nearby=0.0)


@pytest.mark.parametrize(
  "azimuth, word",
  [(0, "front"), (40, "front"), (-40, "front"), (50, "side"), (-90, "side")]
  + [(130, "side"), (140, "back"), (180, "back"), (220, "back")]
  # The diagonals of a rig of eight, all alike.
  + [(45, "front"), (135, "back"), (225, "back"), (315, "front")],
)
def test_view_words(azimuth, word):
  camera = geometry.orbit(
    azimuth=np.radians(azimuth),
    elevation=0.6,
    distance=2.0,
    field_of_view=0.7,
    xnp=np,
  )
  assert views.view_word(np.asarray(camera.camera_to_world)) == word
