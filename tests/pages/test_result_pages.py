import base64
import hashlib
import json
import pathlib
import re

import fake_assets
import pytest
import reading
from ml_collections import config_dict

from mvjax.commands import evaluate, view
from mvjax.pages import results, shared, site
from mvjax.table import run

_EVIL = "</title></textarea><script>alert('1')</script><img src=x onerror=y>"
_VENDORED = pathlib.Path(shared.__file__).parents[1] / "assets/model_viewer"


def _build(out, **more):
  site.build(out, **more)
  return {
    path.parent.name: reading.Page(path) for path in out.glob("*/index.html")
  }


def test_a_page_shows_the_sample_and_its_asset(tmp_path, write):
  content = bytes(range(256))
  folder = write("a red sofa", seed=3, glb=content)
  page = _build(tmp_path / "out")[folder.name]
  assert page.text("h1") == ["a red sofa"]
  assert "seed 3" in page.text("span")
  images = [image["src"] for image in page.all("img")]
  assert [src for src in images if src.startswith("view_")] == [
    f"view_{i:02d}.png" for i in range(6)
  ]
  assert "turntable.gif" in images
  captions = page.text("figcaption")
  assert "azimuth 60°, elevation 15°" in captions
  (viewer,) = page.all("model-viewer")
  head, data = viewer["src"].split(",")
  assert head == "data:model/gltf-binary;base64"
  assert base64.b64decode(data) == content
  assert "the underside is guessed" in page.text("p")
  cells = dict(zip(page.text("th"), page.text("td"), strict=True))
  assert cells["score"] == "mix"
  assert cells["fit.grid"] == "32"
  assert cells["PSNR on its views (dB)"] == "21.50"
  assert cells["seconds to reconstruct"] == "9.00"


def test_an_asset_without_its_record_is_not_whole(tmp_path, write):
  folder = write(glb=b"glTF")
  (folder / "reconstruction.json").unlink()
  page = _build(tmp_path / "out")[folder.name]
  assert not page.all("model-viewer")
  assert not any("model-viewer" in s["src"] for s in page.all("script"))


def test_prompts_and_records_are_text(tmp_path, write):
  folder = write(
    _EVIL,
    glb=b"glTF",
    record={"settings": {_EVIL: _EVIL}, "device": f'"{_EVIL}'},
  )
  page = _build(tmp_path / "out")[folder.name]
  assert page.text("h1") == page.text("title") == [_EVIL]
  assert _EVIL in page.text("th") and f'"{_EVIL}' in page.text("td")
  assert len(page.all("script")) == 2
  assert not any("onerror" in attributes for _, attributes in page.elements)
  assert page.all("model-viewer")[0]["alt"] == _EVIL


def test_pages_forbid_what_they_do_not_bring(tmp_path, write):
  """No source of a host, and no scripts within pages."""
  write(glb=b"glTF")
  _build(tmp_path / "out")
  paths = list((tmp_path / "out").rglob("index.html"))
  assert len(paths) == 2
  for path in paths:
    page = reading.Page(path)
    (policy,) = [m for m in page.all("meta") if "http-equiv" in m]
    rules = {
      name: sources
      for name, *sources in map(str.split, policy["content"].split(";"))
    }
    assert rules["default-src"] == ["'none'"]
    assert "'unsafe-inline'" not in rules["script-src"]
    allowed = {source for sources in rules.values() for source in sources}
    assert all(s.startswith("'") or s.endswith(":") for s in allowed)
    assert not {"http:", "https:"} & allowed
    for _, attributes in page.elements:
      for name in ("src", "href"):
        target = attributes.get(name) or ""
        assert not re.match("(//|https?:)", target)


def test_links_lead_to_files(tmp_path, write):
  write("a sofa", glb=b"glTF")
  write("two chairs", count=4)
  _build(tmp_path / "out")
  for path in (tmp_path / "out").rglob("index.html"):
    for _, attributes in reading.Page(path).elements:
      for name in ("src", "href"):
        target = attributes.get(name)
        if target and not target.startswith("data:"):
          assert (path.parent / target).is_file(), target


def test_the_index_lists_results_with_all_metrics(tmp_path, write):
  first = write("a sofa", seed=0, glb=b"glTF")
  write("a sofa", seed=1)
  seconds = {"x": 6.0, "y": 2.0, "compile": 99.0}
  write("a bed", record={"seconds_of_batch": seconds, "batch_size": 4})
  write("a bath")
  more = {first.name: {"mvc": 0.25, "tsed": float("nan")}}
  site.build(tmp_path / "out", metrics=more)
  page = reading.Page(tmp_path / "out" / "index.html")
  cards = {(a["data-text"]): a for a in page.all("a")}
  assert list(cards) == [
    "a bath seed 0",
    "a bed seed 0",
    "a sofa seed 0",
    "a sofa seed 1",
  ]
  keys = dict(
    zip(
      page.text("option"),
      [f"data-{option['value']}" for option in page.all("option")],
      strict=True,
    )
  )
  assert cards["a bed seed 0"][keys["seconds to sample"]] == "2.0"
  assert keys["seconds to sample"] not in cards["a bath seed 0"]
  assert cards["a sofa seed 0"][keys["mvc"]] == "0.25"
  assert keys["tsed"] not in cards["a sofa seed 0"]
  assert "PSNR on its views (dB)" in keys


def test_figures_of_evaluate_are_shown(tmp_path, write):
  folder = write()
  report = tmp_path / "consistency.json"
  methods = {
    "other": {"folder": str(tmp_path / "other"), "assets": {folder.name: {}}},
    "ours": {
      "folder": str(tmp_path / "x" / ".." / "out"),
      "assets": {folder.name: {"mvc": 0.125, "tsed": None}},
    },
  }
  report.write_text(json.dumps({"methods": methods}))
  metrics = results.read_metrics(report, tmp_path / "out")
  page = _build(tmp_path / "out", metrics=metrics)[folder.name]
  cells = dict(zip(page.text("th"), page.text("td"), strict=True))
  assert (cells["mvc"], cells["tsed"]) == ("0.1250", "–")
  with pytest.raises(ValueError, match="no figures of the assets in .*third"):
    results.read_metrics(report, tmp_path / "third")
  with pytest.raises(FileNotFoundError, match="metrics=.*no such file"):
    results.read_metrics(tmp_path / "none.json", tmp_path / "out")


def test_making_programs_is_no_cost_of_a_sample(tmp_path, write):
  seconds = {"denoise": 6.0, "compile": 90.0}
  folder = write(record={"seconds_of_batch": seconds, "batch_size": 3})
  page = _build(tmp_path / "out")[folder.name]
  cells = dict(zip(page.text("th"), page.text("td"), strict=True))
  assert cells["seconds to sample"] == "2.00"


def test_pages_tell_the_present_state(tmp_path, write):
  folder = write()
  out = tmp_path / "out"
  assert not _build(out)[folder.name].all("model-viewer")
  (folder / "asset.glb").write_bytes(b"glTF")
  (folder / "reconstruction.json").write_text('{"made_of": {}}')
  assert _build(out)[folder.name].all("model-viewer")


def test_folders_of_other_systems_have_pages(tmp_path, write):
  folder = write("a sofa")
  other = folder.with_name("some #1 prompt")
  folder.rename(other)
  for name in ("sample.json", "transforms.json", "grid.png"):
    (other / name).unlink()
  (other.parent / ".half-written").mkdir()
  (other.parent / "notes").mkdir()
  pages = _build(tmp_path / "out")
  assert list(pages) == [other.name]
  assert pages[other.name].text("h1") == [other.name]
  assert "view_00" in pages[other.name].text("figcaption")


def test_views_are_those_of_the_frames(tmp_path, write):
  """Their files and order: 10.png follows 9.png, and folders are kept."""
  folder = write("a sofa", count=12)
  fake_assets.rename_views(folder, "images/{}.png".format)
  page = _build(tmp_path / "out")[folder.name]
  shown = [image["src"] for image in page.all("img")]
  views = [src for src in shown if src.startswith("images/")]
  assert views == [f"images/{i}.png" for i in range(12)]
  captions = page.text("figcaption")
  angles = [text for text in captions if text.startswith("azimuth")]
  assert angles[:3] == [f"azimuth {a}°, elevation 15°" for a in (0, 30, 60)]


def test_what_cannot_be_shown_is_one_line(tmp_path, write):
  out = tmp_path / "out"
  with pytest.raises(FileNotFoundError, match="no such folder"):
    site.build(out)
  out.mkdir()
  with pytest.raises(ValueError, match="holds no folder of views"):
    site.build(out)
  folder = write()
  with pytest.raises(ValueError, match="give the folder around it"):
    site.build(folder)
  (folder / "sample.json").write_text("{")
  with pytest.raises(ValueError, match="sample.json: is no JSON"):
    site.build(out)
  (folder / "sample.json").unlink()
  (folder / "transforms.json").write_text("{")
  with pytest.raises(ValueError, match="transforms.json: is no JSON"):
    site.build(out)


def test_a_table_keeps_its_page(tmp_path, write, monkeypatch, capsys):
  """It is announced when it is made, and shown as it is."""
  out = tmp_path / "out"
  write("a sofa")

  def make(config, folder):
    assert (config, folder) == (table, str(out))
    (out / "table.md").write_text("# figures")
    (out / "table.json").write_text("{}")
    (out / "index.html").write_text("figures and samples")

  table = config_dict.ConfigDict()
  monkeypatch.setattr(run, "evaluate", make)
  evaluate.evaluate_table(table, str(out))
  for _ in range(2):
    said = capsys.readouterr().out
    assert (out / "index.html").resolve().as_uri() in said
    view.view_results(str(out), metrics=None, port=0, serve=False)
  assert (out / "index.html").read_text() == "figures and samples"
  with pytest.raises(ValueError, match="metrics=x.json: .*leave --metrics out"):
    view.view_results(str(out), metrics="x.json", port=0, serve=False)
  (out / "index.html").unlink()
  with pytest.raises(FileNotFoundError, match="evaluate --table"):
    view.view_results(str(out), metrics=None, port=0, serve=False)


def test_the_viewer_is_the_recorded_one():
  """Byte by byte what npm gave, and its licences are there."""
  record = json.loads((_VENDORED / "VERSION.json").read_text())
  script = _VENDORED / pathlib.PurePath(record["file"]).name
  digest = hashlib.sha256(script.read_bytes()).hexdigest()
  assert digest == record["sha256"]
  assert "Apache License" in (_VENDORED / "LICENSE").read_text()
  for package in record["bundled"]:
    name = package.rpartition("/")[2].removesuffix("-js")
    assert (_VENDORED / f"LICENSE.{name}").is_file()
