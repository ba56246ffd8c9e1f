import pytest

from data_pipeline import files


@pytest.mark.parametrize("name", ["../x", "/etc/x", "a/../../x", "..\\x"])
def test_paths_that_leave_the_folder_are_refused(tmp_path, name):
  with pytest.raises(ValueError, match="leaves"):
    files.inside(tmp_path, name)


def test_paths_inside_are_kept(tmp_path):
  assert files.inside(tmp_path, "a/b.obj") == tmp_path / "a" / "b.obj"


def test_links_to_themselves_are_refused(tmp_path):
  (tmp_path / "a.png").symlink_to("a.png")
  with pytest.raises(ValueError, match="a.png' cannot be followed"):
    files.inside(tmp_path, "a.png")
