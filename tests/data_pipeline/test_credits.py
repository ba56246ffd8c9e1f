import pathlib

import pytest

from data_pipeline import credits, objects


def _object(name, **fields):
  fields = {"licence": "CC-BY-3.0", "creator": "Ann", "library": "L", **fields}
  return objects.Object(
    uid=name, name=name, model=pathlib.Path("none"), **fields
  )


def test_every_attribution_is_listed():
  text = credits.markdown(
    [
      _object("Sofa"),
      _object("Chair", creator="Bob"),
      _object("Sofa"),
      _object("Rock", licence="CC0-1.0", creator="Eve"),
    ]
  )
  assert "* **Ann**: Sofa (2)\n* **Bob**: Chair\n" in text
  assert "](https://creativecommons.org/licenses/by/3.0/)" in text
  assert "1 objects in the public domain, by Eve." in text
  assert "Rock" not in text


@pytest.mark.parametrize("field", ["creator", "licence"])
def test_what_cannot_be_credited_is_refused(field):
  with pytest.raises(ValueError, match=f"Sofa: no {field}"):
    credits.markdown([_object("Sofa", **{field: ""})])


def test_the_committed_file_is_up_to_date():
  path = pathlib.Path(credits.__file__).parents[1] / "CREDITS.md"
  things = objects.catalogue(pathlib.Path("none"))
  assert path.read_text(encoding="utf-8") == credits.markdown(things)
