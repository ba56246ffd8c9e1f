"""What a reader sees while a file or folder is written."""

import pytest

from mvjax import atomic


def test_files_and_folders_take_their_place(tmp_path):
  for target in (tmp_path / "new/deep/file", tmp_path / "new/deep/file"):
    with atomic.replaced(target) as new:
      new.write_text(f"{target.exists()}")
  assert target.read_text() == "True"
  folder = tmp_path / "folder"
  for name in ("a", "b"):
    with atomic.replaced(folder) as new:
      new.mkdir()
      (new / name).touch()
  assert [path.name for path in folder.iterdir()] == ["b"]
  assert {path.name for path in tmp_path.iterdir()} == {"new", "folder"}


def test_a_failure_leaves_the_old_and_no_scraps(tmp_path):
  target = tmp_path / "file"
  target.write_text("old")
  with pytest.raises(KeyboardInterrupt), atomic.replaced(target) as new:
    new.write_text("half")
    raise KeyboardInterrupt
  assert target.read_text() == "old"
  assert list(tmp_path.iterdir()) == [target]
