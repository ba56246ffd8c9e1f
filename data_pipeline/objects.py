"""Where 3D objects come from: the furniture package, or any folder.

Both doors give `Object` records, and nothing after this module asks which
door an object came through. The furniture package is Debian's
`sweethome3d-furniture` (820 named objects, CC0 or CC-BY); it is unpacked with
the standard library alone, needs no root, and no path inside an archive is
trusted.
"""

import csv
import dataclasses
import gzip
import hashlib
import io
import json
import pathlib
import re
import shutil
import subprocess
import tarfile
import tempfile
import zipfile

from data_pipeline import fields, files
from mvjax import atomic

PACKAGE = "sweethome3d-furniture=1.8-1"
_CATALOGUE = pathlib.Path(__file__).with_name("catalogue.json.gz")
_SUFFIXES = (".obj", ".glb")
# Of a captions file.
_FIELDS = ("file", "name", "caption", "tags", "category", "creator", "licence")
# Dropped by the catalogue's filter for a word in their name ("door", "tap",
# "apple") that means something else there.
_READMITTED = ("Indoor plant", "Indoor bike", "Outdoor lamp", "Apples")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Object:
  """One 3D model and what is known about it.

  Attributes:
    uid: Unique; any characters.
    name: What it is, in English.
    tags: Further words, may be empty.
    category: A coarser class, or ''.
    caption: A sentence that came with it, or ''.
    creator: Who to credit, or ''.
    licence: A key of `credits.LICENCES`, other text, or '' if unknown.
    library: The collection it came from.
    model: Path of the OBJ or GLB file.
    model_rotation: Row-major 3x3 matrix applied to the file's vertices first,
      or None.
  """

  uid: str
  name: str
  tags: tuple[str, ...] = ()
  category: str = ""
  caption: str = ""
  creator: str = ""
  licence: str = ""
  library: str = ""
  model: pathlib.Path
  model_rotation: tuple[float, ...] | None = None

  @property
  def id(self) -> str:
    """The uid as a file name; a checksum keeps it unique."""
    word = re.sub(r"[^A-Za-z0-9]+", "-", self.uid).strip("-").lower()
    if word == self.uid:
      return word
    return f"{word}-{hashlib.sha256(self.uid.encode()).hexdigest()[:6]}"


def fetch(
  out: pathlib.Path, *, deb: pathlib.Path | None = None
) -> tuple[Object, ...]:
  """Downloads and unpacks the furniture package; returns its usable objects.

  Does nothing but list them if `out` is already complete.

  Args:
    out: Folder to create; each library gets a sub-folder.
    deb: The package's file, where there is no `apt-get`.

  Raises:
    ValueError: The package cannot be had, is not the expected file, or holds
      paths that leave the folder.
  """
  out = pathlib.Path(out)
  if not out.is_dir():
    with atomic.replaced(out) as partial, tempfile.TemporaryDirectory() as tmp:
      archive = pathlib.Path(deb) if deb else _download(pathlib.Path(tmp))
      unpack(archive, partial)
  return catalogue(out)


def catalogue(
  folder: pathlib.Path, *, keep_all: bool = False
) -> tuple[Object, ...]:
  """Objects of an unpacked furniture package, sorted by uid.

  Args:
    folder: What `fetch` wrote.
    keep_all: Also those that the filter drops: built-in fixtures, objects too
      thin to see, trademarks.
  """
  found = []
  for row in _read_catalogue()["objects"]:
    if row["drop"] and row["name"] not in _READMITTED and not keep_all:
      continue
    rotation = row["model_rotation"]
    found.append(
      Object(
        uid=row["uid"],
        name=row["name"],
        tags=tuple(row["tags"]),
        category=row["category"],
        creator=row["creator"],
        licence=row["licence"],
        library=row["library"],
        model=pathlib.Path(folder) / row["library"] / row["model"],
        model_rotation=rotation and tuple(map(float, rotation)),
      )
    )
  return tuple(sorted(found, key=lambda o: o.uid))


def read_folder(
  folder: pathlib.Path, *, captions: str = "captions.csv"
) -> tuple[Object, ...]:
  """Objects of a folder of OBJ and GLB files with a captions file.

  Args:
    folder: The folder; models may lie in sub-folders.
    captions: Name of the captions file in it: CSV with a header line, or JSON
      lines. Fields `file` (path inside the folder) and `name` are required;
      `caption`, `tags` (separated by ';'), `category`, `creator` and
      `licence` may be given.

  Raises:
    ValueError: With the file, the line and what is wrong there.
  """
  folder = pathlib.Path(folder)
  path = folder / captions
  if not path.is_file():
    raise ValueError(f"{path}: not found; give one line `file,name` per model")
  found = {}
  for number, row in _read_table(path):
    where = f"{path} line {number}"
    given = fields.Fields.of(row, where)
    row = {name: given.get(name, str, default="").strip() for name in _FIELDS}
    for field in ("file", "name"):
      if not row[field]:
        raise ValueError(f"{where}: no {field}; give `file` and `name`")
    try:
      model = files.inside(folder, row["file"])
    except ValueError as error:
      raise ValueError(f"{where}: {error}") from error
    if model.suffix.lower() not in _SUFFIXES:
      raise ValueError(
        f"{where}: file {row['file']!r} is neither OBJ nor GLB; convert it"
      )
    if row["file"] in found:
      raise ValueError(f"{where}: file {row['file']!r} is listed twice")
    found[row["file"]] = Object(
      uid=row["file"],
      name=row["name"],
      tags=tuple(t.strip() for t in row["tags"].split(";") if t),
      category=row["category"],
      caption=row["caption"],
      creator=row["creator"],
      licence=row["licence"],
      library=folder.resolve().name,
      model=model,
    )
  if not found:
    raise ValueError(
      f"{path}: lists no models; give a header line `file,name` and one line "
      "for each"
    )
  return tuple(found[uid] for uid in sorted(found))


def unpack(deb: pathlib.Path, out: pathlib.Path) -> None:
  """Unpacks every library of the package into a sub-folder of `out`.

  Raises:
    ValueError: The checksum differs, or an archive is not what it should be.
  """
  if not deb.is_file():
    raise ValueError(f"deb {str(deb)!r}: no such file; download it first")
  data = deb.read_bytes()
  expected = _read_catalogue()["deb_sha256"]
  found = hashlib.sha256(data).hexdigest()
  if found != expected:
    raise ValueError(
      f"{deb}: sha256 is {found}, expected {expected}; is it {PACKAGE}?"
    )
  with tarfile.open(fileobj=io.BytesIO(ar_member(data, "data.tar"))) as tar:
    for member in tar:
      if member.isfile() and member.name.endswith(".sh3f"):
        library = pathlib.PurePosixPath(member.name).stem
        content = tar.extractfile(member)
        assert content is not None  # It is a regular file.
        unzip(io.BytesIO(content.read()), files.inside(out, library))


def ar_member(data: bytes, prefix: str) -> bytes:
  """Content of the first member of an `ar` archive with that name prefix.

  Raises:
    ValueError: Not an ar archive, or no such member.
  """
  if not data.startswith(b"!<arch>\n"):
    raise ValueError("not an ar archive: the first bytes are not '!<arch>'")
  place = 8
  while place + 60 <= len(data):
    header = data[place : place + 60]
    size = int(header[48:58])
    if header[:16].decode("ascii", "replace").startswith(prefix):
      return data[place + 60 : place + 60 + size]
    place += 60 + size + size % 2
  raise ValueError(f"the ar archive has no member {prefix!r}")


def unzip(archive: io.IOBase | pathlib.Path, out: pathlib.Path) -> None:
  """Unpacks a zip file; every path is checked before anything is written.

  Raises:
    ValueError: A path leaves `out`.
  """
  with zipfile.ZipFile(archive) as archived:
    entries = [e for e in archived.infolist() if not e.is_dir()]
    targets = [files.inside(out, entry.filename) for entry in entries]
    for entry, target in zip(entries, targets, strict=True):
      target.parent.mkdir(parents=True, exist_ok=True)
      with archived.open(entry) as source, target.open("wb") as sink:
        shutil.copyfileobj(source, sink)


def _download(folder):
  """The package's file, by the system's package client."""
  if shutil.which("apt-get") is None:
    raise ValueError(
      f"no apt-get on this system; download {PACKAGE} from a Debian mirror "
      "and give it with --deb=FILE"
    )
  done = subprocess.run(
    ["apt-get", "download", PACKAGE],
    cwd=folder,
    capture_output=True,
    text=True,
    check=False,
  )
  debs = sorted(folder.glob("*.deb"))
  if done.returncode or not debs:
    raise ValueError(
      f"apt-get download {PACKAGE} failed: {done.stderr.strip()}; run "
      "`apt-get update`, or give the file with --deb=FILE"
    )
  return debs[0]


def _read_catalogue():
  """The committed list of the package's objects."""
  with gzip.open(_CATALOGUE, "rt", encoding="utf-8") as source:
    return json.load(source)


def _read_table(path):
  """(line number, row) of a CSV or JSON lines file."""
  try:
    # Some programs begin the file with a mark of its encoding.
    text = path.read_text(encoding="utf-8-sig")
  except UnicodeDecodeError as error:
    raise ValueError(f"{path}: is no UTF-8 ({error}); save it so") from error
  if path.suffix == ".csv":
    yield from _read_csv(path, text)
    return
  # Not splitlines: JSON's strings may hold U+2028 and others as they are.
  for number, line in enumerate(text.split("\n"), 1):
    if line.strip():
      yield number, fields.parse(line, f"{path} line {number}")


def _read_csv(path, text):
  """(line number, row); every value has a name."""
  reader = csv.DictReader(io.StringIO(text), strict=True)
  try:
    names = reader.fieldnames or ()
    if not {"file", "name"} <= set(names):
      raise ValueError(
        f"{path}: has no header line with `file` and `name`; it begins with "
        f"{', '.join(names)[:80]!r}"
      )
    for row in reader:
      if None in row:
        raise ValueError(
          f"{path} line {reader.line_num}: has more values than the header; "
          'put a text with commas in quotes, "as, here"'
        )
      yield reader.line_num, row
  except csv.Error as error:
    raise ValueError(f"{path} after line {reader.line_num}: {error}") from error
