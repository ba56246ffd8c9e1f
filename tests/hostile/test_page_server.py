"""What a browser, or what is none, may ask the page server for."""

import http.client
import re
import socket
import time

import pytest

SECRET = b"the user's letter"
PATHS = (
  "/../letter.txt",
  "/../../letter.txt",
  "/%2e%2e/letter.txt",
  "/%2e%2e%2fletter.txt",
  "/..%2fletter.txt",
  "/..%5cletter.txt",
  "/..\\letter.txt",
  "//../letter.txt",
  "/./.././letter.txt",
  "/a-red-leather-sofa-0/../../letter.txt",
  "/link.txt",
  "/linked/letter.txt",
  "/linked/",
  "/letter.txt%00.png",
  "/%00",
  "/%c0%ae%c0%ae/letter.txt",
  "/..;/letter.txt",
  "/file:///etc/passwd",
  "//etc/passwd",
  "/etc/passwd",
  "http://evil.example/letter.txt",
  "/" + "a/" * 3000,
  "/?../letter.txt",
  "/#../letter.txt",
  "/a-red-leather-sofa-0/",
  "/pipe",
)


@pytest.fixture
def port(launch, scene):
  """A running `launch.py view`."""
  scene.copy("samples")
  scene.write("letter.txt", SECRET)
  (scene.home / "samples/link.txt").symlink_to(scene.home / "letter.txt")
  (scene.home / "samples/linked").symlink_to(scene.home)
  run = launch.start(["view", "--out=samples", "--port=0"], scene.home)
  end, found = time.monotonic() + 60, None
  while not found and time.monotonic() < end:
    time.sleep(0.05)
    said = (run.streams / "stdout").read_text()
    found = re.search(r"127\.0\.0\.1:(\d+)", said)
  yield int(found[1])
  launch.kill(run)
  launch.wait(run)


def ask(port, path, *, method="GET", host=None):
  """(status, body)."""
  link = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
  link.putrequest(method, path, skip_host=True)
  link.putheader("Host", host or f"127.0.0.1:{port}")
  link.endheaders()
  answer = link.getresponse()
  found = answer.status, answer.read()
  link.close()
  return found


def test_no_file_outside_is_given(port):
  for path in PATHS:
    status, body = ask(port, path)
    assert SECRET not in body and b"root:" not in body, path
    assert status in (200, 301, 400, 404, 414, 431), (path, status)
    assert b"letter" not in body or status != 200, path
  # It is still there for those who ask for what it has.
  assert ask(port, "/")[0] == 200


def test_other_sites_names_and_methods_are_refused(port):
  for host in ("evil.example", f"evil.example:{port}", "[::1]", "x" * 9000):
    assert ask(port, "/", host=host)[0] in (400, 403, 431), host[:30]
  for method in ("POST", "PUT", "DELETE", "PATCH", "CONNECT", "x" * 500):
    assert ask(port, "/", method=method)[0] in (400, 405, 501), method[:30]
  assert ask(port, "/")[0] == 200


def test_those_who_say_nothing_keep_nobody_waiting(port):
  silent = [socket.create_connection(("127.0.0.1", port)) for _ in range(50)]
  silent[0].sendall(b"GET / HTTP/1.1\r\nHost: 127.0.0.1")
  silent[1].sendall(bytes(range(256)) * 100)
  assert ask(port, "/")[0] == 200
  for link in silent:
    link.close()
  assert ask(port, "/")[0] == 200
