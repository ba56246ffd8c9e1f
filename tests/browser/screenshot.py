"""A picture of a result page, as the README shows it.

python tests/browser/screenshot.py PAGE.html OUT.png
"""

import io
import pathlib
import sys

import chromium
from PIL import Image

# What fits the README's column, without its lower half of settings.
_WIDTH, _HEIGHT = 1100, 1130


def main() -> None:
  """Takes it."""
  page, out = map(pathlib.Path, sys.argv[1:])
  with chromium.open_browser(width=_WIDTH, height=_HEIGHT) as driver:
    chromium.open_result(driver, chromium.as_url(page))
    content = driver.get_screenshot_as_png()
  with Image.open(io.BytesIO(content)) as picture:
    picture.convert("RGB").quantize(256).save(out, optimize=True)
  print(f"{out}: {out.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
  main()
