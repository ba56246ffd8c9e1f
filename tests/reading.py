"""A page as a browser's parser takes it: elements and text."""

import dataclasses
import html.parser
import pathlib


@dataclasses.dataclass
class Page(html.parser.HTMLParser):
  """Elements with their attributes, and text by the element around it."""

  path: pathlib.Path

  def __post_init__(self):
    super().__init__()
    self.elements, self.texts, self._open = [], [], []
    self.feed(self.path.read_text("utf-8"))

  def handle_starttag(self, tag, attrs):
    self.elements.append((tag, dict(attrs)))
    self._open.append(tag)

  def handle_endtag(self, tag):
    while self._open and self._open.pop() != tag:
      pass

  def handle_data(self, data):
    self.texts.append((self._open[-1] if self._open else "", data))

  def all(self, tag):
    """The attributes of every element of this kind."""
    return [attributes for name, attributes in self.elements if name == tag]

  def text(self, tag):
    """The texts in elements of this kind."""
    return [text for name, text in self.texts if name == tag]
