import http.client
import socket
import struct
import threading
import time

import pytest

from mvjax.pages import server


@pytest.fixture
def ask(tmp_path):
  """Asks a running server for a path, as it stands: (status, headers, body)."""
  root = tmp_path / "out"
  (root / "a sofa").mkdir(parents=True)
  (root / "index.html").write_text("the index")
  (root / "a sofa" / "asset.glb").write_bytes(b"glTF")
  (root / "page.js").write_text("1")
  (tmp_path / "secret.txt").write_text("secret")
  (tmp_path / "out-secret").mkdir()
  (tmp_path / "out-secret" / "secret.txt").write_text("secret")
  (root / "link.txt").symlink_to(tmp_path / "secret.txt")
  (root / "linked").symlink_to(tmp_path)
  with server.make_server(root, 0) as running:
    thread = threading.Thread(target=running.serve_forever)
    thread.start()

    def ask(path, *, method="GET", host=None):
      link = http.client.HTTPConnection("127.0.0.1", running.server_port)
      headers = {"Host": host or f"127.0.0.1:{running.server_port}"}
      link.putrequest(method, path, skip_host=True)
      for name, value in headers.items():
        link.putheader(name, value)
      link.endheaders()
      answer = link.getresponse()
      result = answer.status, answer.headers, answer.read()
      link.close()
      return result

    ask.port = running.server_port
    ask.address = running.server_address[0]
    yield ask
    running.shutdown()
    thread.join()


def test_only_this_machine_is_listened_to(ask):
  assert ask.address == "127.0.0.1"


@pytest.mark.parametrize(
  "path, kind",
  [
    ("/", "text/html"),
    ("/index.html", "text/html"),
    ("/a%20sofa/asset.glb", "model/gltf-binary"),
    ("/page.js", "text/javascript"),
  ],
)
def test_files_come_as_what_they_are(ask, path, kind):
  for method in ("GET", "HEAD"):
    status, headers, body = ask(path, method=method)
    assert status == 200
    assert headers["Content-Type"].startswith(kind)
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert bool(body) == (method == "GET")


@pytest.mark.parametrize(
  "path",
  [
    "/../secret.txt",
    "/%2e%2e/secret.txt",
    "/..%2fsecret.txt",
    "/a%20sofa/../../secret.txt",
    "//../secret.txt",
    "/..\\secret.txt",
    "/../out-secret/secret.txt",
    "/link.txt",
    "/linked/secret.txt",
    "/linked/",
    "/a%20sofa/",  # A folder without a page is not listed.
    "/missing.html",
    "/%00",
    "/" + 9000 * "a",
  ],
)
def test_nothing_else_is_given(ask, path):
  status, _, body = ask(path)
  assert status == 404
  assert b"secret.txt" not in body and body != b"secret"


@pytest.mark.parametrize("host", ["evil.example", "evil.example:{port}", ""])
def test_other_names_of_this_address_are_refused(ask, host):
  status, _, body = ask("/", host=host.format(port=ask.port) or " ")
  assert status == 403
  assert b"the index" not in body
  assert ask("/", host=f"localhost:{ask.port}")[0] == 200


def leave(port, text):
  """Sends a request's text and goes away with a reset, the answer unread."""
  link = socket.create_connection(("127.0.0.1", port))
  link.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
  link.sendall(text.encode())
  link.close()


def test_a_browser_that_goes_away_is_no_error(ask, tmp_path, capfd):
  (tmp_path / "out" / "large.glb").write_bytes(bytes(20_000_000))
  threads = threading.active_count()
  host = f"Host: 127.0.0.1:{ask.port}"
  for _ in range(3):
    leave(ask.port, f"GET /large.glb HTTP/1.1\r\n{host}\r\n\r\n")
    leave(ask.port, "GET /large.glb")
  while threading.active_count() > threads:
    time.sleep(0.01)
  assert ask("/")[0] == 200
  assert capfd.readouterr().err == ""


def test_other_errors_are_shown(ask, monkeypatch, capfd):
  monkeypatch.delattr(server._Handler, "_is_inside")
  with pytest.raises(http.client.RemoteDisconnected):
    ask("/")
  assert "AttributeError" in capfd.readouterr().err


def test_a_connection_on_which_nothing_moves_is_closed(ask, monkeypatch, capfd):
  assert 0 < server._Handler.timeout < 60
  monkeypatch.setattr(server._Handler, "timeout", 0.2)
  for text in (b"", b"GET / HTTP/1.1\r\nHost:"):
    with socket.create_connection(("127.0.0.1", ask.port), timeout=20) as link:
      link.sendall(text)
      assert link.recv(1) == b""
  assert capfd.readouterr().err == ""


def test_nothing_can_be_written(ask):
  for method in ("POST", "PUT", "DELETE"):
    assert ask("/index.html", method=method)[0] == 501


def test_a_port_that_cannot_be_had_is_named(ask, tmp_path):
  for port in (ask.port, 70000):
    with pytest.raises(ValueError, match=f"port={port}: cannot listen"):
      server.make_server(tmp_path, port)


def test_the_address_is_printed_and_an_interrupt_ends_it(
  tmp_path, monkeypatch, capsys
):
  def interrupt(self):
    raise KeyboardInterrupt

  monkeypatch.setattr(
    server.http.server.ThreadingHTTPServer, "serve_forever", interrupt
  )
  server.serve(tmp_path, 0)
  assert "http://127.0.0.1:" in capsys.readouterr().out
