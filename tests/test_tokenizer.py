"""Tokens agree with transformers, survive the disk and never overflow."""

import numpy as np
import pytest
import transformers

from mvjax import tokenizer

CAPTIONS = [
  "a red leather sofa",
  "a wooden chair, front view",
  "an old oak wardrobe with 3 doors",
  "a pale blue armchair's cushion",
] * 5


@pytest.fixture(scope="module")
def small():
  return tokenizer.train_tokenizer(CAPTIONS, 600, length=12)


def test_transformers_gives_the_same_ids(small, tmp_path):
  small.save(tmp_path)
  theirs = transformers.CLIPTokenizer.from_pretrained(tmp_path)
  for text in ["a Red  leather sofa", "", "3 chairs, it's new", "tête"]:
    ids = theirs(text, padding="max_length", truncation=True, max_length=12)
    np.testing.assert_array_equal(small([text])[0], ids["input_ids"])
  assert theirs.vocab_size == small.vocab_size


def test_round_trip_through_a_folder(small, tmp_path):
  small.save(tmp_path)
  again = tokenizer.Tokenizer.load(tmp_path)
  np.testing.assert_array_equal(again(CAPTIONS), small(CAPTIONS))
  assert again.length == small.length


def test_frequent_words_become_one_token(small):
  row = small(["leather"])[0]
  assert row[2] == small.end_id


def test_padding_follows_the_configured_token():
  zero = tokenizer.train_tokenizer(CAPTIONS, 600, length=12, pad_token="!")
  assert set(zero(["a"])[0, 3:]) == {zero.pad_id}
  assert zero.pad_id != zero.end_id


def test_truncation_names_what_was_cut(small):
  with pytest.warns(UserWarning, match="doors"):
    row = small(["a red leather sofa chair front view a wardrobe three doors"])
  assert row[0, -1] == small.end_id


def test_missing_file_is_named(tmp_path):
  with pytest.raises(ValueError, match="vocab.json"):
    tokenizer.Tokenizer.load(tmp_path)
