"""Texts of strangers on pages: they are shown, and nothing more."""

import html.parser
import json
import re

import pytest

from tests.hostile import attack

HOSTILE = (
  "<script>alert(1)</script>",
  "</script><script>alert(1)</script>",
  "\"'><img src=x onerror=alert(1)>",
  "<svg/onload=alert(1)>",
  "javascript:alert(1)",
  "</title><script>alert(1)</script>",
  "{{ 7 * 7 }}{% for x in () %}{% endfor %}",
  "<!-- --><style>body{display:none}</style>",
  "&lt;script&gt;alert(1)&lt;/script&gt;",
  "<iframe src='https://evil.example'></iframe>",
  "a\u2028b\u202ec\u0000d",
)


class Page(html.parser.HTMLParser):
  """Which elements and attributes a page really has."""

  def __init__(self, text):
    super().__init__()
    self.tags, self.attributes, self.text = [], [], ""
    self.feed(text)

  def handle_starttag(self, tag, attrs):
    self.tags.append(tag)
    self.attributes += attrs

  def handle_data(self, data):
    self.text += data


def _structure(page):
  return page.tags, [name for name, _ in page.attributes]


@pytest.mark.parametrize("number", range(len(HOSTILE)))
def test_a_text_adds_nothing_to_a_page(launch, scene, number):
  """The page has the elements and attributes that it has of a plain text."""
  pages = {}
  for name, text in (("plain", "a plain text"), ("hostile", HOSTILE[number])):
    folder = scene.copy("samples", f"{name}/out")
    for record in folder.glob("*/sample.json"):
      content = json.loads(record.read_text()) | {
        "prompt": text,
        "settings": {"negative_prompt": text, "score": text},
        "models": {"image": text},
        "cameras": text,
        "device": text,
      }
      record.write_text(json.dumps(content))
    outcome = launch.run(
      ["view", f"--out={name}/out", "--no-serve"], scene.home
    )
    attack.check_manners(outcome)
    assert outcome.code == 0, str(outcome)
    for path in sorted(folder.rglob("*.html")):
      key = path.relative_to(folder)
      pages.setdefault(key, {})[name] = path.read_text()
  assert len(pages) == 3
  for one in pages.values():
    plain, hostile = Page(one["plain"]), Page(one["hostile"])
    assert _structure(hostile) == _structure(plain)
    assert "49" not in hostile.text or "49" in plain.text
    # Nothing is fetched from elsewhere, whatever a text says.
    for name, value in hostile.attributes:
      if name in ("src", "href"):
        assert not re.match("(?i)javascript:|https?:|//", value or ""), value
    scripts = re.findall("(?s)<script.*?</script>", one["hostile"])
    assert len(scripts) == plain.tags.count("script")
