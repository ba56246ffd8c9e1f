"""Tokens agree with transformers, survive the disk and never overflow."""

import json
import warnings

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


def test_one_file_of_vocabulary_and_merges_is_enough(small, tmp_path):
  """As transformers 5 leaves it."""
  small.save(tmp_path)
  fast = transformers.CLIPTokenizerFast.from_pretrained(tmp_path)
  fast.save_pretrained(tmp_path)
  for name in ("vocab.json", "merges.txt", "special_tokens_map.json"):
    (tmp_path / name).unlink()
  again = tokenizer.Tokenizer.load(tmp_path)
  np.testing.assert_array_equal(again(CAPTIONS), small(CAPTIONS))
  assert (again.length, again.pad_id) == (small.length, small.pad_id)


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


@pytest.fixture(scope="module")
def clip():
  return tokenizer.Tokenizer.clip()


@pytest.fixture(scope="module")
def transformers_clip(clip, tmp_path_factory):
  """transformers' tokenizers of CLIP's vocabulary: plain Python, and Rust."""
  folder = tmp_path_factory.mktemp("clip")
  clip.save(folder)
  return [
    getattr(transformers, name).from_pretrained(folder)
    for name in ("CLIPTokenizer", "CLIPTokenizerFast")
  ]


def test_clip_has_its_published_ids(clip):
  row = clip(["a photo of a cat!"])[0]
  assert row[:7].tolist() == [49406, 320, 1125, 539, 320, 2368, 256]
  assert set(row[7:]) == {49407}
  assert (clip.vocab_size, clip.length) == (49408, 77)
  openclip = tokenizer.Tokenizer.clip(pad_token="!")
  assert openclip(["cat"])[0, :4].tolist() == [49406, 2368, 49407, 0]


@pytest.mark.parametrize(
  "text",
  [
    "Über façade naïve café ÅNGSTRÖM",
    "combining e\u0301 and e\u0301\u0302\u0303",
    "a \N{ROCKET}\N{ROCKET} rocket",
    "it's we're don't I'll he'd you've I'm rock'n'roll",
    "&amp; &lt;b&gt; &quot;x&quot; &#39;",
    "  lots\t of \n white\u00a0space\u2003here ",
    "!!! ... --- ??? #$%^ @user_name",
    "3.14159 and 2000s x2 \u00bd \u00b2",
    "hello_world snake_case-kebab/path\\back",
    "\u201csmart\u201d \u2018quotes\u2019\u2014dash\u2026 \ufb01ne",
    "ΑΒΓ Привет İstanbul ẞ",
    "مرحبا بالعالم",
    "<|startoftext|> inside <|endoftext|>",
    "x" * 300,
    "",
  ],
)
def test_clip_agrees_with_transformers(clip, transformers_clip, text):
  for theirs in transformers_clip:
    ids = theirs(text, padding="max_length", truncation=True, max_length=77)
    with warnings.catch_warnings():
      warnings.filterwarnings("ignore", message="text cut")
      ours = clip([text])[0]
    np.testing.assert_array_equal(ours, ids["input_ids"])


@pytest.mark.parametrize(
  "text", ["日本語のテキスト 中文", "a family 👩\u200d🚀", "zero\u200bwidth"]
)
def test_clip_agrees_where_transformers_does_not_with_itself(
  clip, transformers_clip, text
):
  """Its Python version splits Chinese and drops control characters."""
  ids = transformers_clip[1](text, padding="max_length", max_length=77)
  np.testing.assert_array_equal(clip([text])[0], ids["input_ids"])


def test_a_long_prompt_says_what_clip_will_not_see(clip):
  """75 tokens fit between the start and the end: 14 times 5, and 5 more."""
  kept = "a very detailed photo, " * 14 + "with a small green parrot"
  with pytest.warns(UserWarning) as caught:
    row = clip([f"{kept} on a branch"])[0]
  [message] = [str(warning.message) for warning in caught]
  assert message == "text cut to 77 tokens; dropped: 'on a branch'"
  # What is kept is what fits without a warning.
  np.testing.assert_array_equal(clip([kept])[0], row)


@pytest.mark.parametrize("listed", [False, True])
def test_the_padding_of_published_folders(clip, tmp_path, listed):
  """SD 2.x has "!" in special_tokens_map.json only; transformers takes it,
  unless tokenizer_config.json lists the special tokens with their ids.
  """
  clip.save(tmp_path)
  config = json.loads((tmp_path / "tokenizer_config.json").read_text())
  if listed:
    config["added_tokens_decoder"] = {
      str(index): {"content": token, "special": True}
      for index, token in ((49406, tokenizer.START), (49407, tokenizer.END))
    }
  (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
  special = {"pad_token": "!", "eos_token": {"content": tokenizer.END}}
  (tmp_path / "special_tokens_map.json").write_text(json.dumps(special))
  theirs = transformers.CLIPTokenizer.from_pretrained(tmp_path)
  ours = tokenizer.Tokenizer.load(tmp_path)
  assert ours.pad_id == theirs.pad_token_id == (49407 if listed else 0)


@pytest.mark.parametrize("name", ["tokenizer_config.json", "vocab.json"])
def test_damage_is_named(small, tmp_path, name):
  small.save(tmp_path)
  (tmp_path / name).write_text("{")
  with pytest.raises(ValueError, match=f"{tmp_path} is damaged"):
    tokenizer.Tokenizer.load(tmp_path)
