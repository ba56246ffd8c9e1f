import json

import numpy as np
import pytest

from mvjax.evaluation import store


@pytest.fixture
def kept(tmp_path):
  return store.Store(tmp_path / "sub")


def test_what_was_written_is_read_for_its_key_only(kept):
  assert kept.read_json("a sofa", key="k") is None
  kept.write_json("a sofa", {"mvc": 0.5, "none": None}, key="k")
  assert kept.read_json("a sofa", key="k") == {"mvc": 0.5, "none": None}
  assert kept.read_json("a sofa", key="other") is None
  values = np.arange(6.0).reshape(2, 3)
  kept.write_array("a sofa", values, key="k")
  np.testing.assert_array_equal(kept.read_array("a sofa", key="k"), values)
  assert kept.read_array("a sofa", key="other") is None


def test_similar_names_do_not_share_a_file(kept):
  for name in ("a/b", "a b", "A b", "x" * 200 + "1", "x" * 200 + "2"):
    kept.write_json(name, {"name": name}, key="k")
  for name in ("a/b", "a b", "A b", "x" * 200 + "1", "x" * 200 + "2"):
    assert kept.read_json(name, key="k") == {"name": name}


def test_damaged_files_are_absent(kept, tmp_path):
  kept.write_json("a", {}, key="k")
  kept.write_array("a", np.ones(3), key="k")
  for file in (tmp_path / "sub").iterdir():
    file.write_bytes(file.read_bytes()[:10])
  assert kept.read_json("a", key="k") is None
  assert kept.read_array("a", key="k") is None


def test_nothing_partial_remains(tmp_path):
  with pytest.raises(ValueError):
    store.write_json(tmp_path / "x.json", {"value": float("nan")})
  assert not any(tmp_path.iterdir())
  store.write_json(tmp_path / "x.json", {"value": 1})
  assert [file.name for file in tmp_path.iterdir()] == ["x.json"]
  assert json.loads((tmp_path / "x.json").read_text()) == {"value": 1}
