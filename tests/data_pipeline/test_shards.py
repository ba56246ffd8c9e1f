import json
import shutil
import warnings

import fake_renders
import numpy as np
import pytest
import tensorflow_datasets as tfds

from data_pipeline import build, loader, shards
from mvjax.views import view_sets


@pytest.fixture(scope="module")
def sets(tmp_path_factory):
  """The same renders as one data set and in three parts."""
  root = tmp_path_factory.mktemp("shards")
  renders = fake_renders.write(root / "renders")
  whole = build.build_renders(renders, root / "whole").folder
  for index in (2, 0, 1):
    shard = shards.Shard(index=index, count=3)
    build.build_renders(renders, root / "parts", shard=shard)
  return root, whole


def rows(path, split):
  records = loader.records(
    loader.LoaderSettings(
      path=str(path),
      split=split,
      looks=("simplified", "retextured"),
      held_out_pairs="seen_by_image_model",
      batch_size=1,
    )
  )
  return {(r["uid"], r["look"], r["material"]): r for r in records}


@pytest.mark.parametrize("split", ["train", "held_out_objects"])
def test_parts_hold_what_the_whole_holds(sets, split):
  root, whole = sets
  one, many = rows(whole, split), rows(root / "parts", split)
  assert one.keys() == many.keys() and len(one) > 1
  for key, record in one.items():
    assert list(record["captions"]) == list(many[key]["captions"])
    assert list(record["images"]) == list(many[key]["images"])


def test_a_part_reads_only_its_own_objects(sets, tmp_path):
  root, _ = sets
  renders = tmp_path / "renders"
  shutil.copytree(root / "renders", renders)
  # With the held-out list there, other workers' folders are only names.
  for folder in sorted(renders.glob("object_*"))[1:]:
    (folder / "meta.json").write_text("broken")
  shard = shards.Shard(index=0, count=6)
  folder = build.build_renders(renders, tmp_path / "out", shard=shard).folder
  source = tfds.builder_from_directory(folder).as_data_source()
  uids = {row["uid"] for part in source.values() for row in part}
  assert uids == {b"object_0"}


def test_held_out_objects_are_decided_anew_when_objects_join(sets, tmp_path):
  root, whole = sets
  renders = tmp_path / "renders"
  shutil.copytree(root / "renders", renders)
  shutil.rmtree(renders / "object_5")
  build.build_renders(renders, tmp_path / "out")
  kept = json.loads((renders / "held_out_objects.json").read_text())
  assert "object_3" not in kept["uids"]  # the only table now
  (builder,) = [tfds.builder_from_directory(whole)]
  assert builder.info.splits["held_out_objects"].num_examples == 6


def test_order_is_a_function_of_the_parts_alone(sets):
  root, _ = sets
  settings = loader.LoaderSettings(
    path=str(root / "parts"), looks=("simplified",), batch_size=2
  )
  first, again = (loader.fingerprint(settings) for _ in range(2))
  assert first == again
  batches = [next(loader.batches(settings)) for _ in range(2)]
  assert batches[0]["uid"].tolist() == batches[1]["uid"].tolist()
  np.testing.assert_array_equal(batches[0]["image"], batches[1]["image"])


def test_descriptions_are_read_again_when_they_change(sets, tmp_path):
  """Once for all that a start and its validations ask."""
  root, _ = sets
  parts = tmp_path / "parts"
  shutil.copytree(root / "parts", parts)
  first = shards.open_data_set(parts)
  assert shards.open_data_set(str(parts)) is first
  (info,) = parts.glob(f"00001-of-00003/*/*/{shards.INFO}")
  content = json.loads(info.read_text())
  info.write_text(json.dumps(content, indent=3))
  again = shards.open_data_set(parts)
  assert again is not first and again.digest == first.digest
  shutil.rmtree(parts / "00001-of-00003")
  with pytest.raises(ValueError, match="1 of 3 parts are missing"):
    shards.open_data_set(parts)


def test_missing_and_foreign_parts_are_named(sets, tmp_path):
  root, _ = sets
  parts = tmp_path / "parts"
  shutil.copytree(root / "parts", parts)
  shutil.rmtree(parts / "00001-of-00003")
  with pytest.raises(ValueError, match="1 of 3 parts are missing.*=1/3"):
    shards.folders(parts)
  shutil.copytree(parts / "00002-of-00003", parts / "00000-of-00001")
  with pytest.raises(ValueError, match="different divisions, of 1 and of 3"):
    shards.folders(parts)
  with pytest.raises(ValueError, match="no data set"):
    shards.folders(tmp_path / "nothing")


@pytest.mark.parametrize("text", ["3", "3/3", "-1/3", "a/b", "1/0", "1/2/3"])
def test_a_wrong_shard_is_one_line(text):
  with pytest.raises(ValueError, match="INDEX/COUNT"):
    shards.Shard.parse(text)


def test_a_part_without_objects_is_refused(sets, tmp_path):
  root, _ = sets
  with pytest.raises(ValueError, match="make fewer parts"):
    build.build_renders(
      root / "renders", tmp_path, shard=shards.Shard(index=9, count=10)
    )


@pytest.fixture
def damaged(sets, tmp_path):
  """A copy of a data set to spoil, and its first file of records."""
  _, whole = sets
  folder = tmp_path / "renders/1.0.0"
  shutil.copytree(whole, folder)
  return folder, next(iter(sorted(folder.glob("*train*"))))


def read_all(folder):
  return [
    asset.read()
    for asset in view_sets.open_set(folder, looks=("simplified", "retextured"))
  ]


@pytest.mark.parametrize("content", ["", "a text", None, "gone"], ids=str)
def test_a_damaged_file_of_records_is_one_line(damaged, content):
  folder, file = damaged
  if content is None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
  elif content == "gone":
    file.unlink()
  else:
    file.write_text(content)
  with pytest.raises(
    ValueError, match=r"record \d+: .* build it again"
  ) as error:
    read_all(folder)
  assert str(folder) in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("text", ["", "{}", "null", "[]", "[" * 100_000])
@pytest.mark.parametrize(
  "name", ["dataset_info.json", "features.json", "metadata.json"]
)
def test_a_damaged_description_is_one_line(damaged, name, text):
  folder, _ = damaged
  (folder / name).write_text(text)
  with pytest.raises(ValueError, match="damaged data set .*again") as error:
    read_all(folder)
  assert str(folder) in str(error.value) and "\n" not in str(error.value)


def test_a_camera_that_is_not_finite_is_named(sets, tmp_path):
  root, _ = sets
  objects = fake_renders.read(root / "renders")
  objects[1].camera_to_world[3, 0, 0] = np.nan
  with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # its orbits cannot be told
    folder = build.build(objects, tmp_path).folder
  with pytest.raises(
    ValueError, match=r"train, record \d+: .*camera_to_world .* not finite"
  ):
    read_all(folder)
