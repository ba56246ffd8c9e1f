import math
import urllib.parse

import pytest
import reading

from mvjax.pages import index

_EVIL = '"><script>alert(1)</script>'


def _entry(title="a sofa", folder="a-sofa-0", **others):
  return index.Entry(title=title, folder=folder, **others)


def test_every_entry_has_a_card_with_its_data(tmp_path):
  first = _entry(
    note="mix, seed 3",
    thumbnail="a-sofa-0/grid.png",
    metrics={"psnr": 21.25, "mvc": None},
  )
  second = _entry("a bed", "mv/a-bed-0", metrics={"seconds": 3})
  page = reading.Page(index.write(tmp_path, [first, second], title="a table"))
  assert page.text("h1") == ["a table"]
  one, two = page.all("a")
  assert one["href"] == "a-sofa-0/index.html"
  assert two["href"] == "mv/a-bed-0/index.html"
  assert one["data-title"] == "a sofa"
  assert one["data-text"] == "a sofa mix, seed 3"
  # Metrics are numbered in the order of the menu.
  menu = dict(
    zip(
      page.text("option"),
      [option["value"] for option in page.all("option")],
      strict=True,
    )
  )
  assert one[f"data-{menu['psnr']}"] == "21.25"
  assert two[f"data-{menu['seconds']}"] == "3"
  assert f"data-{menu['mvc']}" not in one
  assert f"data-{menu['psnr']}" not in two
  assert [image["src"] for image in page.all("img")] == ["a-sofa-0/grid.png"]


def test_text_of_strangers_is_text(tmp_path):
  folder = f"javascript:alert(1)#?{_EVIL}"
  entry = _entry(
    _EVIL,
    folder,
    note=_EVIL,
    thumbnail=f"{folder}/x.png",
    metrics={_EVIL: 1.0, "items": None},
  )
  page = reading.Page(index.write(tmp_path, [entry], title=_EVIL))
  (script,) = page.all("script")
  assert script["src"] == "page_files/index.js"
  assert not any(text.strip() for text in page.text("script"))
  assert page.text("h1") == page.text("title") == page.text("strong") == [_EVIL]
  (link,) = page.all("a")
  parts = urllib.parse.urlsplit(link["href"])
  assert not (parts.scheme or parts.netloc or parts.query or parts.fragment)
  assert urllib.parse.unquote(parts.path) == f"{folder}/index.html"
  assert set(link) == {
    "class",
    "href",
    "data-title",
    "data-text",
    "data-metric-0",
  }


def test_shared_files_lie_beside_the_index(tmp_path):
  index.write(tmp_path, [], title="empty")
  index.write(tmp_path, [], title="empty, again")
  files = tmp_path / "page_files"
  assert (files / "index.js").is_file()
  assert (files / "model_viewer" / "LICENSE").is_file()
  assert {path.name for path in tmp_path.iterdir()} == {
    "index.html",
    "page_files",
  }


@pytest.mark.parametrize(
  "fields, message",
  [
    ({"folder": "/etc"}, "folder='/etc': must be relative"),
    ({"folder": "a/../../b"}, "folder=.*below it"),
    ({"thumbnail": "../x.png"}, "thumbnail=.*below it"),
    ({"metrics": {"psnr": math.inf}}, "psnr of 'a sofa' is inf"),
    ({"metrics": {"psnr": math.nan}}, "psnr of 'a sofa' is nan"),
  ],
)
def test_wrong_entries_are_named(tmp_path, fields, message):
  with pytest.raises(ValueError, match=message):
    index.write(tmp_path, [_entry(**fields)], title="x")
  assert not list(tmp_path.iterdir())
