"""The only executable: data, train, sample, reconstruct, evaluate and more.

`python launch.py COMMAND --help` lists a command's flags. Python 2 reads this
file too, so that any interpreter can say which one is needed.
"""

import os
import sys

# Exit code where nothing more can be written; wrong input is 2.
CANNOT_WRITE = 4
OLDEST, NEWEST = (3, 11), (3, 13)


def main():
  """Runs the command in sys.argv; returns the exit code."""
  if not OLDEST <= tuple(sys.version_info[:2]) <= NEWEST:
    this, oldest, newest = map(_dotted, (sys.version_info, OLDEST, NEWEST))
    sys.stderr.write(
      "error: this is Python "
      + this
      + ", mvjax needs "
      + oldest
      + " to "
      + newest
      + "; run `make`, or name another interpreter\n"
    )
    return 2
  from mvjax.commands import command_line

  return command_line.main(cannot_write=CANNOT_WRITE)


def _dotted(version):
  return ".".join(map(str, version[:2]))


if __name__ == "__main__":
  code = main()
  if code == CANNOT_WRITE:
    # What libraries hold back for the end cannot be written either.
    os._exit(code)
  sys.exit(code)
