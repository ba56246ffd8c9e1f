"""The most memory that work takes: of the device, or of the process on a CPU.

A device tells its peak since the process began. For a CPU it is the process's
resident memory, Python and compilation included; on Linux it counts from
`reset_peak`, elsewhere from the start.
"""

import contextlib
import pathlib
import re
import resource
import sys

import jax

_CLEAR = pathlib.Path("/proc/self/clear_refs")
_STATUS = pathlib.Path("/proc/self/status")


def reset_peak() -> None:
  """Counts anew from what is in use now, where the system allows it."""
  with contextlib.suppress(OSError):
    _CLEAR.write_text("5")


def peak_bytes() -> int:
  """The peak so far in bytes, of the fullest device."""
  stats = [device.memory_stats() or {} for device in jax.local_devices()]
  found = [int(each.get("peak_bytes_in_use", 0)) for each in stats]
  if any(found):
    return max(found)
  if _STATUS.is_file():
    # `getrusage` would know of the parent's peak too, if that was higher.
    peak = re.search(r"VmHWM:\s*(\d+) kB", _STATUS.read_text())
    if peak:
      return 1024 * int(peak[1])
  unit = 1 if sys.platform == "darwin" else 1024
  return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
