import pytest

from data_pipeline import files


def test_replacing_leaves_nothing_after_a_failure(tmp_path):
  with pytest.raises(RuntimeError), files.replacing(tmp_path / "a") as partial:
    (partial / "half").write_text("done")
    raise RuntimeError
  assert not list(tmp_path.iterdir())


def test_replacing_swaps_the_whole_folder(tmp_path):
  for name in ("old", "new"):
    with files.replacing(tmp_path / "a") as partial:
      (partial / name).write_text(name)
  assert [p.name for p in (tmp_path / "a").iterdir()] == ["new"]


@pytest.mark.parametrize("name", ["../x", "/etc/x", "a/../../x", "..\\x"])
def test_paths_that_leave_the_folder_are_refused(tmp_path, name):
  with pytest.raises(ValueError, match="leaves"):
    files.inside(tmp_path, name)


def test_paths_inside_are_kept(tmp_path):
  assert files.inside(tmp_path, "a/b.obj") == tmp_path / "a" / "b.obj"
