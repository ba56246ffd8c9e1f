"""Google Cloud Storage in memory, for its real clients on loopback.

Four clients read and write gs:// paths: gcsfs (through epath), TensorStore
(Orbax's arrays), google-cloud-storage (Orbax asks it about the bucket) and the
C++ client inside array_record. Each takes the address
of another server from the environment. This serves what they use of the JSON
API, https://cloud.google.com/storage/docs/json_api/v1, and keeps its rule that
there are no folders, only names.
"""

import base64
import contextlib
import hashlib
import http.server
import json
import re
import threading
import urllib.parse
from collections.abc import Iterator

_OBJECT = re.compile(r"/b/([^/]+)/o/([^/]+)$")
_TRANSFER = re.compile(
  r"/b/([^/]+)/o/([^/]+)/(rewriteTo|copyTo|moveTo)(?:/b/([^/]+))?/o/([^/]+)$"
)


class Storage:
  """The objects of a server.

  Attributes:
    objects: Content and generation by 'bucket/name'.
    order: These names in the order in which they were written.
    environment: What makes the clients use this server.
  """

  def __init__(self, port: int):
    url = f"http://localhost:{port}"
    self.objects: dict[str, tuple[bytes, int]] = {}
    self.order: list[str] = []
    self.environment = {
      "STORAGE_EMULATOR_HOST": url,
      "TENSORSTORE_GCS_HTTP_URL": url,
      "CLOUD_STORAGE_EMULATOR_ENDPOINT": url,
      # gcsfs would ask about the kind of bucket, by another protocol.
      "GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT": "false",
      # Some look for credentials or a project even so.
      "GOOGLE_AUTH_TOKEN_FOR_TESTING": "none",
      "GOOGLE_CLOUD_PROJECT": "none",
      "NO_GCE_CHECK": "true",
    }
    self.uploads: dict[str, tuple[str, bytearray]] = {}
    self._lock = threading.Lock()

  def put(self, path: str, content: bytes) -> dict:
    """Writes an object; returns its description."""
    with self._lock:
      self.order.append(path)
      self.objects[path] = content, len(self.order)
    return self.about(path)

  def remove(self, path: str) -> int:
    """Removes an object; returns a status."""
    return 204 if self.objects.pop(path, None) else 404

  def about(self, path: str) -> dict:
    """The description of an object."""
    content, generation = self.objects[path]
    bucket, _, name = path.partition("/")
    return {
      "kind": "storage#object",
      "id": f"{path}/{generation}",
      "bucket": bucket,
      "name": name,
      "size": str(len(content)),
      "generation": str(generation),
      "metageneration": "1",
      "md5Hash": base64.b64encode(hashlib.md5(content).digest()).decode(),
      "timeCreated": "2026-01-01T00:00:00.000Z",
      "updated": "2026-01-01T00:00:00.000Z",
      "storageClass": "STANDARD",
    }


class _Handler(http.server.BaseHTTPRequestHandler):
  """Requests about the objects of `storage`."""

  protocol_version = "HTTP/1.1"
  wbufsize = -1  # one packet for head and body, or the client waits to confirm
  disable_nagle_algorithm = True
  storage: Storage

  def log_message(self, *_):
    pass

  def handle(self):
    with contextlib.suppress(ConnectionError):  # who has read enough hangs up
      super().handle()

  def do_GET(self):
    path, query = self._address()
    if found := _OBJECT.search(path):
      name = _name(*found.groups())
      if name not in self.storage.objects:
        self._fail(404)
      elif query.get("alt") == "media":
        self._send_content(name)
      else:
        self._reply(200, self.storage.about(name))
    elif found := re.search(r"/b/([^/]+)$", path):
      self._reply(200, {"name": found[1], "id": found[1]})
    elif path.endswith("/o"):
      self._send_list(path.split("/")[-2], query)
    elif path[1:] in self.storage.objects:  # the address of array_record
      self._send_content(path[1:])
    else:
      self._fail(404)

  def do_POST(self):
    path, query = self._address()
    body = self._body()
    if "upload_id" in query:
      self._continue(query["upload_id"], body)
    elif found := _TRANSFER.search(path):
      self._transfer(*found.groups())
    elif path.startswith("/batch/"):
      self._remove_many(body)
    else:
      bucket = path.split("/")[-2]
      self._upload(f"{bucket}/", query, body)

  def do_PUT(self):
    _, query = self._address()
    self._continue(query["upload_id"], self._body())

  def do_DELETE(self):
    path, _ = self._address()
    found = _OBJECT.search(path)
    self._reply(self.storage.remove(_name(*found.groups())) if found else 404)

  def _address(self):
    url = urllib.parse.urlsplit(self.path)
    return url.path, dict(urllib.parse.parse_qsl(url.query))

  def _body(self):
    if self.headers.get("Transfer-Encoding") != "chunked":
      return self.rfile.read(int(self.headers.get("Content-Length") or 0))
    chunks = []
    while size := int(self.rfile.readline(), 16):
      chunks.append(self.rfile.read(size))
      self.rfile.readline()
    self.rfile.readline()
    return b"".join(chunks)

  def _reply(self, code, body=b"", **headers):
    if not isinstance(body, bytes):
      body = json.dumps(body).encode()
      headers["Content-Type"] = "application/json"
    self.send_response(code)
    for name, value in headers.items():
      self.send_header(name.replace("_", "-"), value)
    self.send_header("Content-Length", str(len(body)))
    self.end_headers()
    self.wfile.write(body)

  def _fail(self, code):
    self._reply(code, {"error": {"code": code, "message": "refused"}})

  def _send_content(self, name):
    content, generation = self.storage.objects[name]
    headers = {
      "x_goog_generation": str(generation),
      "x_goog_metageneration": "1",
      "x_goog_storage_class": "STANDARD",
    }
    wanted = re.fullmatch(r"bytes=(\d*)-(\d*)", self.headers.get("Range", ""))
    if wanted is None:
      self._reply(200, content, **headers)
      return
    first, last = wanted.groups()
    start = int(first) if first else max(len(content) - int(last), 0)
    stop = int(last) + 1 if first and last else len(content)
    part = content[start:stop]
    if not part:
      self._fail(416)
      return
    headers["Content_Range"] = (
      f"bytes {start}-{start + len(part) - 1}/{len(content)}"
    )
    self._reply(206, part, **headers)

  def _send_list(self, bucket, query):
    prefix, delimiter = query.get("prefix", ""), query.get("delimiter")
    first, end = query.get("startOffset", ""), query.get("endOffset")
    items, prefixes = [], set()
    for path in sorted(self.storage.objects):
      home, _, name = path.partition("/")
      if home != bucket or not name.startswith(prefix) or name < first:
        continue
      if end and name >= end:
        continue
      rest = name[len(prefix) :]
      if delimiter and delimiter in rest:
        prefixes.add(prefix + rest.partition(delimiter)[0] + delimiter)
      else:
        items.append(self.storage.about(path))
    self._reply(200, {"items": items, "prefixes": sorted(prefixes)})

  def _transfer(self, bucket, name, kind, other, target):
    source = _name(bucket, name)
    if source not in self.storage.objects:
      self._fail(404)
      return
    content, _ = self.storage.objects[source]
    about = self.storage.put(_name(other or bucket, target), content)
    if kind == "moveTo":
      self.storage.remove(source)
    done = {"done": True, "resource": about}
    self._reply(200, done if kind == "rewriteTo" else about)

  def _remove_many(self, body):
    codes = [
      self.storage.remove(_name(*found))
      for found in re.findall(r"DELETE \S*/b/([^/]+)/o/(\S+)", body.decode())
    ]
    parts = [f"--==a==\r\n\r\nHTTP/1.1 {code} x\r\n" for code in codes]
    text = "".join([*parts, "--==a==--"])
    kind = "multipart/mixed; boundary===a=="
    self._reply(200, text.encode(), Content_Type=kind)

  def _upload(self, home, query, body):
    if query["uploadType"] == "resumable":
      number = str(len(self.storage.uploads))
      name = query.get("name") or json.loads(body)["name"]
      self.storage.uploads[number] = home + name, bytearray()
      where = f"http://{self.headers['Host']}/upload/?upload_id={number}"
      self._reply(200, Location=where)
      return
    if query["uploadType"] == "multipart":
      boundary = self.headers["Content-Type"].split("boundary=")[1].strip('"')
      about, body = (
        part.split(b"\n\n", 1)[1]
        for part in body.split(f"--{boundary}".encode())[1:3]
      )
      name, body = json.loads(about)["name"], body.removesuffix(b"\n")
    else:
      name = query["name"]
    _, generation = self.storage.objects.get(home + name, (b"", 0))
    if int(query.get("ifGenerationMatch", generation)) != generation:
      self._fail(412)
      return
    self._reply(200, self.storage.put(home + name, body))

  def _continue(self, number, body):
    name, content = self.storage.uploads[number]
    content += body
    if self.headers.get("Content-Range", "").endswith("/*"):
      self._reply(308, Range=f"bytes=0-{len(content) - 1}")
    else:
      self._reply(200, self.storage.put(name, bytes(content)))


def _name(bucket: str, name: str) -> str:
  return f"{bucket}/{urllib.parse.unquote(name)}"


@contextlib.contextmanager
def serve() -> Iterator[Storage]:
  """A server in a thread, on a free port."""
  handler = type("Handler", (_Handler,), {})
  server = http.server.ThreadingHTTPServer(("localhost", 0), handler)
  handler.storage = Storage(server.server_port)
  thread = threading.Thread(target=server.serve_forever, daemon=True)
  thread.start()
  try:
    yield handler.storage
  finally:
    server.shutdown()
    server.server_close()
    thread.join()
