import hashlib
import io
import json
import re
import tarfile
import zipfile

import pytest

from data_pipeline import objects

_UID = "Blend Swap CC-0#armchair"
_MODEL = "blendswap-cc-0/armchair/armchair.obj"


def _zip(entries):
  data = io.BytesIO()
  with zipfile.ZipFile(data, "w") as archive:
    for name, text in entries.items():
      archive.writestr(name, text)
  return data.getvalue()


def _deb(libraries):
  """An ar archive as Debian makes them, with two members."""
  tar_data = io.BytesIO()
  with tarfile.open(fileobj=tar_data, mode="w:xz") as tar:
    for library, content in libraries.items():
      info = tarfile.TarInfo(f"./usr/share/furniture/{library}.sh3f")
      info.size = len(content)
      tar.addfile(info, io.BytesIO(content))
  archive = b"!<arch>\n"
  members = {"debian-binary": b"2.0\n\n", "data.tar.xz": tar_data.getvalue()}
  for name, content in members.items():
    header = f"{name:<16}{'0':<12}{'0':<6}{'0':<6}{'100644':<8}"
    header += f"{len(content):<10}`\n"
    archive += header.encode() + content + b"\n" * (len(content) % 2)
  return archive


def _accept(monkeypatch, data):
  catalogue = {**objects._read_catalogue()}
  catalogue["deb_sha256"] = hashlib.sha256(data).hexdigest()
  monkeypatch.setattr(objects, "_read_catalogue", lambda: catalogue)


def test_catalogue_has_unique_safe_ids_and_licences(tmp_path):
  things = objects.catalogue(tmp_path)
  assert len(things) == 645
  assert len(objects.catalogue(tmp_path, keep_all=True)) == 820
  ids = {thing.id for thing in things}
  assert len(ids) == len(things)
  assert all(re.fullmatch("[a-z0-9-]+", i) for i in ids)
  assert all(thing.creator and thing.licence for thing in things)
  # Re-admitted although the filter took them for fixtures or brands.
  assert "Indoor plant" in {thing.name for thing in things}


@pytest.mark.parametrize("mark", ["\u2028", "\u2029", "\x85"], ids=ascii)
def test_a_line_of_json_ends_at_a_newline_only(tmp_path, mark):
  name = f"a{mark}chair"
  (tmp_path / "a.glb").write_bytes(b"")
  row = json.dumps({"file": "a.glb", "name": name}, ensure_ascii=False)
  (tmp_path / "objects.jsonl").write_text(f"{row}\n", encoding="utf-8")
  (found,) = objects._read_table(tmp_path / "objects.jsonl")
  assert found == (1, {"file": "a.glb", "name": name})


def test_fetch_unpacks_once(tmp_path, monkeypatch):
  data = _deb({"BlendSwap-CC-0": _zip({_MODEL: "v 0 0 0"})})
  _accept(monkeypatch, data)
  deb = tmp_path / "f.deb"
  deb.write_bytes(data)
  things = objects.fetch(tmp_path / "out", deb=deb)
  thing = next(t for t in things if t.uid == _UID)
  assert thing.model.read_text() == "v 0 0 0"
  deb.unlink()
  assert objects.fetch(tmp_path / "out", deb=deb) == things


def test_a_zip_that_leaves_its_folder_is_refused_whole(tmp_path, monkeypatch):
  data = _deb({"evil": _zip({"good.obj": "", "../../bad.obj": ""})})
  _accept(monkeypatch, data)
  deb = tmp_path / "f.deb"
  deb.write_bytes(data)
  with pytest.raises(ValueError, match="leaves"):
    objects.fetch(tmp_path / "a" / "out", deb=deb)
  assert [p.name for p in tmp_path.rglob("*")] in (
    ["f.deb", "a"],
    ["a", "f.deb"],
  )


def test_another_file_is_refused(tmp_path):
  deb = tmp_path / "f.deb"
  deb.write_bytes(_deb({}))
  with pytest.raises(ValueError, match="sha256 is .* expected"):
    objects.fetch(tmp_path / "out", deb=deb)
  with pytest.raises(ValueError, match="no such file"):
    objects.fetch(tmp_path / "out", deb=tmp_path / "absent.deb")
  with pytest.raises(ValueError, match="not an ar archive"):
    objects.ar_member(b"PK", "data")
  with pytest.raises(ValueError, match="no member 'x'"):
    objects.ar_member(deb.read_bytes(), "x")


def test_without_apt_the_remedy_is_named(tmp_path, monkeypatch):
  monkeypatch.setattr(objects.shutil, "which", lambda name: None)
  with pytest.raises(ValueError, match="--deb=FILE"):
    objects.fetch(tmp_path / "out")


def _folder(tmp_path):
  for name in ("a.obj", "sub/b.glb", "c.ply"):
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_text("")
  return tmp_path


def test_folder_with_csv(tmp_path):
  folder = _folder(tmp_path)
  (folder / "captions.csv").write_text(
    "file,name,caption,tags,licence\n"
    'sub/b.glb,Boat,"a small, red boat",Toy;Sea,CC-BY-4.0\n'
    "a.obj,Chair,,,\n"
  )
  chair, boat = objects.read_folder(folder)
  assert (chair.name, chair.caption, chair.tags) == ("Chair", "", ())
  assert boat.caption == "a small, red boat"
  assert boat.tags == ("Toy", "Sea")
  assert boat.licence == "CC-BY-4.0"
  assert boat.model == folder / "sub" / "b.glb"
  assert chair.id != boat.id


def test_folder_with_json_lines(tmp_path):
  folder = _folder(tmp_path)
  rows = [{"file": "a.obj", "name": "Chair", "creator": "Ann"}]
  (folder / "c.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n\n")
  (chair,) = objects.read_folder(folder, captions="c.jsonl")
  assert (chair.name, chair.creator) == ("Chair", "Ann")


@pytest.mark.parametrize(
  ("row", "problem"),
  [
    ("a.obj,", "line 2: no name"),
    ("c.ply,Chair", "neither OBJ nor GLB"),
    ("../a.obj,Chair", "leaves"),
    ("a.obj,Chair\na.obj,Chair", "line 3: file 'a.obj' is listed twice"),
    ("a.obj,Chair, red", "line 2: has more values than the header"),
    ('a.obj,"Chair', "unexpected end of data"),
    ('a.obj,"Chair"red', "after line 1: "),
    ("", "lists no models"),
    ("a.obj\0,Chair", "line 2: path 'a.obj\\x00' can be no file's name"),
    (f"{300 * 'a'}.obj,Chair", "line 2: path"),
    (f"a.obj,{200_000 * 'a'}", "after line 1: field larger"),
  ],
  ids=range(11),
)
def test_bad_rows_are_named(tmp_path, row, problem):
  folder = _folder(tmp_path)
  (folder / "captions.csv").write_text(f"file,name\n{row}\n")
  with pytest.raises(ValueError, match=re.escape(problem)):
    objects.read_folder(folder)


@pytest.mark.parametrize(
  ("content", "problem"),
  [
    (b"", "has no header line"),
    (b"a.obj,Chair\n", "no header line .* begins with 'a.obj, Chair'"),
    (b"a.obj,Chair\nb.obj,Boat\n", "no header line"),
    ("file,name\na.obj,Chäir".encode("latin-1"), "is no UTF-8"),
    (b"\x89PNG\r\n\x1a\n\0\0", "is no UTF-8"),
  ],
  ids=range(5),
)
def test_a_table_that_is_none_is_one_line(tmp_path, content, problem):
  (tmp_path / "captions.csv").write_bytes(content)
  with pytest.raises(ValueError, match=f"captions.csv.*{problem}") as error:
    objects.read_folder(tmp_path)
  assert "\n" not in str(error.value)


def test_a_table_may_begin_with_a_mark(tmp_path):
  folder = _folder(tmp_path)
  (folder / "captions.csv").write_text(
    "file,name\na.obj,Chair\n", encoding="utf-8-sig"
  )
  assert [thing.name for thing in objects.read_folder(folder)] == ["Chair"]


@pytest.mark.parametrize(
  ("line", "problem"),
  [
    ("3", "is 3; must be an object"),
    ("null", "is None; must be an object"),
    ("[" * 100_000, "is no JSON"),
    ('{"file": "a.obj"}', "no name; give `file` and `name`"),
    ('{"file": "a.obj", "name": null}', "no name; give `file` and `name`"),
    ('{"file": ["a.obj"], "name": "a"}', r"file is \['a.obj'\]; it must be a"),
    ('{"file": "a.obj", "name": 3}', "name is 3; it must be a text"),
    (
      '{"file": "a.obj", "name": "a", "tags": ["a"]}',
      r"tags is \['a'\]; it must be a text",
    ),
    ('{"file": "a.obj", "name": "\\ud800"}', "name is .* must be a text"),
  ],
  ids=range(9),
)
def test_bad_lines_of_json_are_named(tmp_path, line, problem):
  folder = _folder(tmp_path)
  good = json.dumps({"file": "sub/b.glb", "name": "Boat"})
  (folder / "c.jsonl").write_text(f"{good}\n{line}\n")
  with pytest.raises(ValueError, match=f"c.jsonl line 2: {problem}") as error:
    objects.read_folder(folder, captions="c.jsonl")
  assert "\n" not in str(error.value)


def test_a_folder_without_captions_file(tmp_path):
  with pytest.raises(ValueError, match="one line `file,name` per model"):
    objects.read_folder(tmp_path)
