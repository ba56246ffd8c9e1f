"""Where processes of one test meet."""

import socket


def free_port() -> int:
  """A port of this machine that nothing listened on a moment ago."""
  with socket.socket() as probe:
    probe.bind(("localhost", 0))
    return probe.getsockname()[1]
