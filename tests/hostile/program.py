"""launch.py from outside: started, waited for, and what came of it."""

import dataclasses
import json
import pathlib
import subprocess
import sys
from collections.abc import Mapping, Sequence

ROOT = pathlib.Path(__file__).parents[2]
SECONDS = 60.0
BYTES = 4 << 30
# XLA on this machine's processor, wherever a compiled program is reused.
_NOISE = "cpu_aot_loader.cc"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Outcome:
  """How a run ended.

  Attributes:
    code: exit code; -9 after SIGKILL.
    timed_out: whether it was killed because its time was over.
    left_processes: whether processes that it started outlived it.
    peak_bytes: largest resident memory, that of its processes included.
    cpu_seconds: of work.
    stdout: what it printed.
    stderr: the same, of the other stream.
    reached: connections to other machines and processes that it tried.
    streams: folder of the run's own files.
  """

  code: int
  timed_out: bool
  left_processes: bool
  peak_bytes: int
  cpu_seconds: float
  stdout: str
  stderr: str
  reached: list[str]
  streams: pathlib.Path

  def __str__(self):
    """What a failed test shows."""
    end = " / ".join(self.stderr.strip().splitlines()[-4:])
    return (
      f"code {self.code}, {self.peak_bytes >> 20} MiB, {self.cpu_seconds:.1f} s"
      f"{', timed out' if self.timed_out else ''}"
      f"{', left processes' if self.left_processes else ''}: {end[-700:]}"
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Run:
  """A process under way."""

  pid: int
  streams: pathlib.Path


class Program:
  """A warmed launch.py."""

  def __init__(self):
    self._process = subprocess.Popen(
      [sys.executable, "-m", "tests.hostile.forking"],
      cwd=ROOT,
      stdin=subprocess.PIPE,
      stdout=subprocess.PIPE,
      text=True,
    )

  def start(
    self,
    command: Sequence[str],
    home: pathlib.Path,
    *,
    stand_in: str = "",
    kill: Mapping | None = None,
    file_bytes: int | None = None,
  ) -> Run:
    """Starts a command in the folder `home`.

    Args:
      command: what follows launch.py.
      home: its working folder; what it prints lies beside it.
      stand_in: function of `stand_ins` that is called first.
      kill: see `watching.start`.
      file_bytes: the size at which writing a file fails.
    """
    number = len(list(home.parent.glob(f"{home.name}.run-*")))
    streams = home.parent / f"{home.name}.run-{number}"
    (streams / "tmp").mkdir(parents=True)
    limits = {"DATA": BYTES, "CORE": 0}
    if file_bytes is not None:
      limits["FSIZE"] = file_bytes
    job = {
      "do": "start",
      "command": list(command),
      "home": str(home),
      "environment": {
        "TMPDIR": str(streams / "tmp"),
        "XDG_CACHE_HOME": str(streams / "cache"),
        "HF_HOME": str(streams / "hub"),
      },
      "stdout": str(streams / "stdout"),
      "stderr": str(streams / "stderr"),
      "reached": str(streams / "reached"),
      "limits": limits,
      "stand_in": stand_in,
      "kill": kill,
    }
    return Run(pid=self._ask(job)["pid"], streams=streams)

  def wait(self, run: Run, *, seconds: float = SECONDS) -> Outcome:
    """How a run ends, by itself or after this time."""
    answer = self._ask({"do": "wait", "pid": run.pid, "seconds": seconds})
    reached = run.streams / "reached"
    stderr = (run.streams / "stderr").read_text("utf-8", "replace")
    lines = stderr.splitlines(keepends=True)
    return Outcome(
      **answer,
      stdout=(run.streams / "stdout").read_text("utf-8", "replace"),
      stderr="".join(line for line in lines if _NOISE not in line),
      reached=reached.read_text().splitlines() if reached.exists() else [],
      streams=run.streams,
    )

  def run(self, command, home, *, seconds=SECONDS, **how) -> Outcome:
    """Starts and waits."""
    return self.wait(self.start(command, home, **how), seconds=seconds)

  def kill(self, run: Run) -> None:
    """Sends SIGKILL."""
    self._ask({"do": "kill", "pid": run.pid})

  def close(self) -> None:
    """Ends the warmed process."""
    self._process.stdin.close()
    self._process.wait(30)
    self._process.stdout.close()

  def _ask(self, job: dict) -> dict:
    self._process.stdin.write(json.dumps(job) + "\n")
    self._process.stdin.flush()
    return json.loads(self._process.stdout.readline())
