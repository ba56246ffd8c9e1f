import pathlib

import numpy as np
import pytest

from data_pipeline import captions, materials, objects


def _object(name, **fields):
  return objects.Object(
    uid=name, name=name, model=pathlib.Path("none"), **fields
  )


@pytest.mark.parametrize(
  ("phrase", "expected"),
  [
    ("red sofa", "a red sofa"),
    ("orange sofa", "an orange sofa"),
    ("utensils pot", "a utensils pot"),
    ("umbrella", "an umbrella"),
    ("MP3 base", "an MP3 base"),
    ("SUV", "an SUV"),
    ("TV", "a TV"),
    ("DVD player", "a DVD player"),
    ("hour glass", "an hour glass"),
  ],
)
def test_articles_follow_the_sound(phrase, expected):
  assert captions.with_article(phrase) == expected


def test_material_captions():
  texts = captions.in_material(_object("Sofa"), material="leather", color="red")
  assert texts[0] == "a red leather sofa"
  assert "a sofa made of red leather" in texts
  assert len(set(texts)) == len(texts) >= 3
  assert all("red leather" in text and "sofa" in text for text in texts)


@pytest.mark.parametrize(
  ("name", "expected"),
  [
    ("Hashtray", "an ashtray"),
    ("Teck chair", "a teak chair"),
    ("Trunck", "a tree trunk"),
    ("Sneakers", "sneakers"),
    ("TV stand", "a TV stand"),
    ("Captain's bed", "a captain's bed"),
  ],
)
def test_names_are_corrected(name, expected):
  assert captions.original(_object(name), None) == (expected,)


def test_a_colour_in_the_name_is_never_contradicted():
  table = _object("Black table")
  assert captions.original(table, "gray") == ("a black table",)
  texts = captions.in_material(table, material="marble", color="white")
  assert texts[0] == "a white marble table"


@pytest.mark.parametrize(
  ("name", "noun"),
  [
    ("Black table", "table"),
    ("Wooden teak table", "table"),
    ("Stone lantern", "lantern"),
    ("Beer glass", "beer glass"),
    ("Glass", "glass"),
    ("Glass of water", "glass of water"),
    ("Black and white chair", "black and white chair"),
    ("Clear sofa", "sofa"),
    ("Male", "statue of a man"),
  ],
)
def test_objects_that_a_text_cannot_tell_apart_share_a_noun(name, noun):
  thing = _object(name, tags=("Human",) if name == "Male" else ())
  assert captions.bare_noun(thing) == noun
  texts = captions.in_material(thing, material="denim", color="blue")
  assert texts[0] == f"a blue denim {noun}"


def test_people_have_no_colour_and_become_statues():
  woman = _object("Sitting female", tags=("Human", "People"))
  assert captions.original(woman, "black") == ("a woman sitting",)
  texts = captions.in_material(woman, material="marble", color="white")
  assert texts[0] == "a white marble statue of a woman sitting"


def test_colour_tags_and_own_captions_are_used():
  thing = _object("Rowboat", tags=("Boats", "Lake"), caption="my boat")
  texts = captions.original(thing, "green")
  assert texts[:2] == ("my boat", "a rowboat")
  assert "a green rowboat" in texts
  assert "a green rowboat, boats" in texts


def test_every_name_of_the_catalogue_gives_a_clean_caption():
  for thing in objects.catalogue(pathlib.Path("none")):
    for text in captions.original(thing, "red"):
      assert text == text.strip()
      assert "  " not in text
      assert text.split()[0] not in ("a", "an") or len(text.split()) > 1


@pytest.mark.parametrize(
  "word", sorted(set(materials.COLORS) - {"gold", "silver", "copper"})
)
def test_base_colours_are_recognised(word):
  assert captions.color_word(np.array(materials.COLORS[word])) == word
