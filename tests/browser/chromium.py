"""Headless Chromium with software WebGL, and what its pages did."""

import contextlib
import json
import pathlib
import shutil
import tempfile
import time
from collections.abc import Iterator

from selenium import webdriver
from selenium.webdriver.chrome import options, service

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
DRIVERS = ("chromedriver",)

_FLAGS = (
  "--headless",
  "--no-sandbox",
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
  "--disable-dev-shm-usage",
  "--hide-scrollbars",
  "--use-angle=swiftshader",
  "--enable-unsafe-swiftshader",
)
# Software rendering on shared cores; a laptop needs two seconds.
_PATIENCE_SECONDS = 90


def find(names: tuple[str, ...]) -> str | None:
  """The path of the first of these programs that is there."""
  return next(filter(None, map(shutil.which, names)), None)


@contextlib.contextmanager
def open_browser(
  *, width: int = 1280, height: int = 900
) -> Iterator[webdriver.Chrome]:
  """A browser with an empty profile; logs tell of errors and requests."""
  with tempfile.TemporaryDirectory() as profile:
    chosen = options.Options()
    chosen.binary_location = find(BROWSERS)
    for flag in _FLAGS:
      chosen.add_argument(flag)
    chosen.add_argument(f"--user-data-dir={profile}")
    chosen.add_argument(f"--window-size={width},{height}")
    logs = {"browser": "ALL", "performance": "ALL"}
    chosen.set_capability("goog:loggingPrefs", logs)
    driver = webdriver.Chrome(chosen, service.Service(find(DRIVERS)))
    try:
      yield driver
    finally:
      driver.quit()


def wait_for(driver: webdriver.Chrome, expression: str) -> None:
  """Waits until a JavaScript expression is true."""
  end = time.monotonic() + _PATIENCE_SECONDS
  while not driver.execute_script(f"return Boolean({expression})"):
    if time.monotonic() > end:
      raise TimeoutError(f"{driver.current_url}: not so yet: {expression}")
    time.sleep(0.1)


def open_result(driver: webdriver.Chrome, url: str) -> None:
  """Opens a result page and waits until its asset is drawn."""
  driver.get(url)
  wait_for(driver, "document.querySelector('model-viewer').loaded")
  # Two frames: one is drawn, then it is on the screen.
  driver.execute_async_script(
    "const done = arguments[0];"
    "requestAnimationFrame(() => requestAnimationFrame(() => done()));"
  )


def errors(driver: webdriver.Chrome) -> list[str]:
  """What the console called an error since the last call."""
  return [
    entry["message"]
    for entry in driver.get_log("browser")
    if entry["level"] == "SEVERE"
  ]


def requests(driver: webdriver.Chrome) -> list[str]:
  """Every address asked for since the last call."""
  events = [
    json.loads(entry["message"])["message"]
    for entry in driver.get_log("performance")
  ]
  return [
    event["params"]["request"]["url"]
    for event in events
    if event["method"] == "Network.requestWillBeSent"
  ]


def as_url(path: pathlib.Path) -> str:
  """The address of a double click."""
  return path.resolve().as_uri()
