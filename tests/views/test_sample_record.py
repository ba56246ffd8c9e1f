import json

import pytest

from mvjax.generation import figure
from mvjax.pages import results
from mvjax.views import sample_record

RECORD = {
  "prompt": "a sofa",
  "seed": 0,
  "batch_size": 2,
  "seconds_of_batch": {"denoise": 1.5},
}


@pytest.mark.parametrize(
  "change, name",
  [
    ({"prompt": ["sofa"]}, "prompt"),
    ({"seed": "0"}, "seed"),
    ({"seconds_of_batch": 7}, "seconds_of_batch"),
    ({"seconds_of_batch": {"denoise": "long"}}, "denoise"),
    ({"batch_size": 0}, "batch_size"),
    ({"peak_memory_bytes": "much"}, "peak_memory_bytes"),
    ("[" * 100_000, "JSON"),
    ("[]", "object"),
  ],
  ids=lambda value: str(value)[:40],
)
def test_every_reader_names_the_file_and_the_field(tmp_path, change, name):
  folder = tmp_path / "out" / "a-sofa-0"
  folder.mkdir(parents=True)
  text = change if isinstance(change, str) else json.dumps(RECORD | change)
  (folder / "sample.json").write_text(text)
  for read in (
    lambda: sample_record.read(folder),
    lambda: results.read(folder),
    lambda: figure.compare({"a": tmp_path / "out"}, tmp_path / "a.png"),
  ):
    with pytest.raises(ValueError, match=f"sample.json: .*{name}") as caught:
      read()
    assert "\n" not in str(caught.value)


def test_what_it_says_is_what_stands_there(tmp_path):
  assert sample_record.read(tmp_path) == {}
  (tmp_path / "sample.json").write_text(json.dumps(RECORD | {"other": [1]}))
  assert sample_record.read(tmp_path) == RECORD | {"other": [1]}


@pytest.mark.parametrize("content", [b"", b"no picture", b"\x89PNG\r\n\x1a\n"])
def test_a_figure_names_the_damaged_view(tmp_path, content):
  folder = tmp_path / "out" / "a-sofa-0"
  folder.mkdir(parents=True)
  (folder / "sample.json").write_text(json.dumps(RECORD))
  (folder / "view_00.png").write_bytes(content)
  with pytest.raises(ValueError, match="view_00.png: damaged"):
    figure.compare({"a": tmp_path / "out"}, tmp_path / "a.png", views=1)
