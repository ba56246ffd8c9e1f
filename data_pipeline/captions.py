"""Captions from an object's name, tags, category, colour and material.

Words that depend on the camera ("front view of") are the loader's business.
"""

import colorsys

import numpy as np
from jaxtyping import Float

from data_pipeline import objects

# Misspelt, foreign or ambiguous names of the furniture package.
_CORRECTIONS = {
  "bended coconut tree": "bent coconut tree",
  "barnum": "party tent",
  "bootie": "ankle boot",
  "cctv": "security camera",
  "class seat": "school chair",
  "clear sofa": "sofa",
  "concept sedan 01": "sedan car",
  "concept sedan 02": "sedan car",
  "concept sedan 02 sport": "sports car",
  "convertible sofa bz": "sofa bed",
  "cup cake": "cupcake",
  "dart game": "dartboard",
  "extinguisher": "fire extinguisher",
  "female": "woman",
  "flacon": "perfume bottle",
  "flipper": "pinball machine",
  "football table": "table football game",
  "fork lift": "forklift",
  "frame chambord": "picture frame",
  "frame hôi an": "picture frame",
  "frame hoi an": "picture frame",
  "hashtray": "ashtray",
  "holding female": "woman holding something",
  "holding male": "man holding something",
  "hood": "kitchen hood",
  "island": "kitchen island",
  "island extension": "kitchen island extension",
  "letters box": "letter box",
  "lip stick": "lipstick",
  "little bank": "small bench",
  "lying down boy": "boy lying down",
  "lying down female": "woman lying down",
  "lying down male": "man lying down",
  "male": "man",
  "mocassin": "moccasin shoe",
  "mower": "lawn mower",
  "opened convertible sofa bz": "open sofa bed",
  "penbox": "pen box",
  "puff": "pouf",
  "rectangle swimming pool": "rectangular swimming pool",
  "rigged fan": "fan",
  "short": "pair of shorts",
  "sitting boy": "boy sitting",
  "sitting female": "woman sitting",
  "sitting girl": "girl sitting",
  "sitting male": "man sitting",
  "sofa 2 seats": "two-seat sofa",
  "sofa 3 seats": "three-seat sofa",
  "table tennis": "table tennis table",
  "teck chair": "teak chair",
  "toilets unit": "toilet",
  "trunck": "tree trunk",
  "tv 16:9": "TV",
  "wall flat tv": "flat TV",
  "woman shoes": "pair of woman's shoes",
  "wood bank": "wooden bench",
}
# Names that are several things or a mass: no article.
_NO_ARTICLE = frozenset(
  {
    "apples",
    "bread",
    "butter",
    "flowers",
    "folded clothes",
    "french fries",
    "glasses",
    "hanging clothes",
    "headphones",
    "keys",
    "kitchen tools",
    "logs",
    "milk",
    "oil servers",
    "orchids",
    "peach blossom",
    "plate, glass and cutlery",
    "plate, glasses and cutlery",
    "scissors",
    "shelves",
    "slippers",
    "sneakers",
    "soap",
    "sugar",
    "sunglasses",
    "trousers",
    "tulips",
    "upper shelves",
    "vertical shelves",
    "wood logs",
  }
)
# Names that already tell a colour or a substance, which must not be
# contradicted.
_COLOR_WORDS = frozenset(
  "red orange yellow green blue purple pink brown black white gray".split()
)
SUBSTANCES = frozenset(
  "alder burlap concrete glass iron plastic rattan stone teak wood "
  "wooden".split()
)
_LINKS = frozenset("and in of on with".split())
# Words that sound a vowel differently from how they are spelt.
_CONSONANT_SOUND = ("uni", "uri", "use", "uten", "euro", "one")
_VOWEL_SOUND = ("hour", "heir", "honest")
_VOWEL_LETTERS = frozenset("aefhilmnorsx")


def noun(thing: objects.Object) -> str:
  """What the object is called in captions: corrected, in lower case."""
  name = " ".join(thing.name.split())
  corrected = _CORRECTIONS.get(name.lower())
  if corrected is not None:
    return corrected
  return " ".join(
    word if len(word) > 1 and word.isupper() else word.lower()
    for word in name.split(" ")
  )


def is_person(thing: objects.Object) -> bool:
  """Whether it is a human figure; a colour would misdescribe it."""
  return "Human" in thing.tags


def with_article(phrase: str) -> str:
  """The phrase after "a" or "an", by its sound: "an MP3 base"."""
  first = phrase.split()[0]
  if len(first) > 1 and first[:2].isupper():
    vowel = first[0].lower() in _VOWEL_LETTERS  # Letters are read one by one.
  else:
    vowel = first.lower().startswith(("a", "e", "i", "o", "u", *_VOWEL_SOUND))
    vowel = vowel and not first.lower().startswith(_CONSONANT_SOUND)
  return f"{'an' if vowel else 'a'} {phrase}"


def original(thing: objects.Object, color: str | None) -> tuple[str, ...]:
  """Captions of an object in its own materials.

  Args:
    thing: The object.
    color: Word for its main colour, or None if it has no clear one.
  """
  name = noun(thing)
  if _COLOR_WORDS & set(name.split()) or is_person(thing):
    color = None
  captions = [thing.caption] if thing.caption else []
  captions.append(_phrase(name))
  if color is not None:
    captions += [_phrase(name, color), f"{_phrase(name)} in {color}"]
  words = {word.rstrip("s") for word in name.lower().split()}
  for tag in thing.tags[:2]:
    if tag.lower().rstrip("s") not in words and not is_person(thing):
      captions.append(f"{_phrase(name, color)}, {tag.lower()}")
      break
  return tuple(dict.fromkeys(captions))


def bare_noun(thing: objects.Object) -> str:
  """What the object is called in captions that name another material.

  Colours and substances at the head of the name give way ("Black table",
  "Wooden table" in white marble: "table"); people become statues. Objects with
  one such noun are told apart by no text, so that pairs of a noun and a
  material are what is held out.
  """
  first, *others = noun(thing).split()
  while (
    others
    and first in _COLOR_WORDS | SUBSTANCES
    and others[0] not in _LINKS  # "Glass of water" is no "of water"
  ):
    first, *others = others
  name = " ".join([first, *others])
  return f"statue of {with_article(name)}" if is_person(thing) else name


def in_material(
  thing: objects.Object, *, material: str, color: str
) -> tuple[str, ...]:
  """Captions of an object whose main parts have a material of `materials`."""
  name = bare_noun(thing)
  substance = f"{color} {material}"
  return (
    _phrase(name, substance),
    f"{_phrase(name)} made of {substance}",
    f"{_phrase(name)} in {substance}",
    f"{substance} {name}",
  )


def color_word(rgb: Float[np.ndarray, "3"]) -> str | None:
  """An everyday word for an sRGB colour; None between two words."""
  hue, lightness, _ = colorsys.rgb_to_hls(*map(float, rgb))
  chroma = float(np.max(rgb) - np.min(rgb))
  hue *= 360
  if lightness < 0.13:
    return "black"
  if chroma < 0.09:
    return (
      "white" if lightness > 0.78 else "gray" if lightness > 0.25 else "black"
    )
  if chroma < 0.14 and not 10 < hue < 50:
    return None
  if 12 <= hue < 48 and lightness < 0.5 and chroma < 0.62:
    return "brown"
  for limit, word in (
    (14, "red"),
    (42, "orange" if chroma > 0.45 else "beige"),
    (66, "yellow" if chroma > 0.35 else "beige"),
    (165, "green"),
    (195, "turquoise"),
    (255, "blue"),
    (295, "purple"),
    (342, "pink" if lightness > 0.4 else "purple"),
    (361, "red" if lightness < 0.6 else "pink"),
  ):
    if hue < limit:
      return word
  return None


def _phrase(name, adjective=None):
  """The name with an adjective and, unless it is a plural, an article."""
  phrase = f"{adjective} {name}" if adjective else name
  return phrase if name in _NO_ARTICLE else with_article(phrase)
