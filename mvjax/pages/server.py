"""A web server for one folder, for this machine only.

It listens on 127.0.0.1, answers only requests that name that address (another
site's name could be made to point at it), gives no file outside the folder,
also not through a link, and lists no folders.
"""

import functools
import http.server
import pathlib
import sys
import typing

ADDRESS = "127.0.0.1"
# After which a connection on which nothing moves is closed.
IDLE_SECONDS = 20.0


def make_server(
  folder: pathlib.Path, port: int
) -> http.server.ThreadingHTTPServer:
  """A server that is bound and not yet running.

  Args:
    folder: what to serve.
    port: 0 takes any that is free.

  Raises:
    ValueError: the port is no port, or is taken.
  """
  handler = functools.partial(_Handler, directory=str(folder))
  try:
    return _Server((ADDRESS, port), handler)
  except (OSError, OverflowError) as error:
    raise ValueError(
      f"port={port}: cannot listen there ({error}); choose another, or 0 for "
      "any that is free"
    ) from error


def serve(folder: pathlib.Path, port: int) -> None:
  """Serves until interrupted; prints the address.

  Raises:
    ValueError: the port is no port, or is taken.
  """
  with make_server(folder, port) as server:
    print(
      f"{folder} is at http://{ADDRESS}:{server.server_port}/ "
      "(Ctrl-C ends this)",
      flush=True,
    )
    try:
      server.serve_forever()
    except KeyboardInterrupt:
      print()


class _Server(http.server.ThreadingHTTPServer):
  """A thread for each connection."""

  def handle_error(self, request, client_address):
    """A browser may leave at any time; other errors are shown."""
    if not isinstance(sys.exception(), (ConnectionError, TimeoutError)):
      super().handle_error(request, client_address)


class _Handler(http.server.SimpleHTTPRequestHandler):
  """GET and HEAD of the files in one folder."""

  timeout = IDLE_SECONDS
  extensions_map: typing.ClassVar = {
    **http.server.SimpleHTTPRequestHandler.extensions_map,
    ".glb": "model/gltf-binary",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".ply": "application/octet-stream",
  }

  def send_head(self):
    """The file that was asked for, or an error."""
    port = self.server.server_address[1]
    if self.headers.get("Host") not in (
      f"{ADDRESS}:{port}",
      f"localhost:{port}",
    ):
      self.send_error(403, "ask for 127.0.0.1")
      return None
    if not self._is_inside():
      self.send_error(404)
      return None
    return super().send_head()

  def list_directory(self, path):
    """There are no lists of folders."""
    del path
    self.send_error(404)

  def end_headers(self):
    """Pages may change between two looks; files are what their name says."""
    self.send_header("Cache-Control", "no-cache")
    self.send_header("X-Content-Type-Options", "nosniff")
    super().end_headers()

  def log_message(self, format, *args):
    """The terminal stays readable."""
    del format, args

  def _is_inside(self) -> bool:
    try:
      path = pathlib.Path(self.translate_path(self.path)).resolve()
    except (OSError, ValueError):  # A name that no file can have.
      return False
    return path.is_relative_to(pathlib.Path(self.directory).resolve())
