"""CLIP-style text tokens: byte-level BPE, lower case, `</w>` ends a word.

The files are the four of transformers' `CLIPTokenizer`, so a folder made here
loads there with the same ids; and the other way round, also with the two files
that transformers 5 writes.
CLIP's own vocabulary is shipped, for models whose files have none.
"""

import gzip
import json
import pathlib
import reprlib
import warnings
from collections.abc import Iterable, Sequence

import numpy as np
import tokenizers
from jaxtyping import Int32
from tokenizers import (
  decoders,
  models,
  normalizers,
  pre_tokenizers,
  trainers,
)

START = "<|startoftext|>"
END = "<|endoftext|>"
# All CLIP text encoders of Stable Diffusion have these.
CLIP_VOCAB_SIZE = 49408
CLIP_LENGTH = 77
# In a row; a text encoder has as many positions.
_MOST_TOKENS = 1 << 20
# Where transformers 5 writes vocabulary and merges.
_ONE_FILE = "tokenizer.json"
# assets/clip_bpe: OpenAI's list of merges, of which CLIP uses the first.
_CLIP_MERGES = (
  pathlib.Path(__file__).parent / "assets/clip_bpe/bpe_simple_vocab_16e6.txt.gz"
)
# Words, contractions, single digits, and runs of anything else.
_WORDS = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"


def _pipeline(model: models.BPE) -> tokenizers.Tokenizer:
  """CLIP's text clean-up around a BPE model."""
  tokenizer = tokenizers.Tokenizer(model)
  tokenizer.normalizer = normalizers.Sequence(
    [
      normalizers.NFC(),
      normalizers.Replace(tokenizers.Regex(r"\s+"), " "),
      normalizers.Lowercase(),
    ]
  )
  tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
    [
      pre_tokenizers.Split(
        tokenizers.Regex(_WORDS), behavior="removed", invert=True
      ),
      pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
    ]
  )
  tokenizer.decoder = decoders.ByteLevel()
  return tokenizer


def _bpe(vocab: dict[str, int], merges: list[tuple[str, str]]) -> models.BPE:
  return models.BPE(
    vocab=vocab,
    merges=merges,
    unk_token=END,
    end_of_word_suffix="</w>",
    continuing_subword_prefix="",
  )


class Tokenizer:
  """Texts to padded token ids.

  Attributes:
    length: Tokens in a row, start and end tokens included.
    start_id, end_id, pad_id: The special tokens. CLIP ViT-L (SD 1.x) pads
      with the end token, OpenCLIP-H (SD 2.x) with token 0.
    vocab_size: Number of ids, for the text encoder's embedding.
  """

  def __init__(
    self,
    vocab: dict[str, int],
    *,
    merges: Sequence[tuple[str, str]],
    length: int,
    pad_token: str = END,
  ):
    for token in (START, END, pad_token):
      if token not in vocab:
        raise ValueError(
          f"tokenizer: special token {token!r} is not in vocab.json"
        )
    if sorted(vocab.values()) != list(range(len(vocab))):
      raise ValueError("tokenizer: ids in vocab.json are not 0, 1, 2, ...")
    if type(length) is not int or not 2 < length <= _MOST_TOKENS:
      raise ValueError(
        f"tokenizer: model_max_length={reprlib.repr(length)}: must be a whole "
        f"number from 3 to {_MOST_TOKENS}"
      )
    self._vocab, self._merges = dict(vocab), [tuple(m) for m in merges]
    self._pad_token = pad_token
    self._encoder = _pipeline(_bpe(self._vocab, self._merges))
    # In a text they are themselves, as in CLIP.
    self._encoder.add_special_tokens([START, END])
    self.length, self.vocab_size = length, len(vocab)
    self.start_id, self.end_id = vocab[START], vocab[END]
    self.pad_id = vocab[pad_token]

  @classmethod
  def load(cls, folder: str | pathlib.Path) -> "Tokenizer":
    """Reads a diffusers `tokenizer/` folder.

    Raises:
      ValueError: A file is missing or damaged, naming it.
    """
    folder = pathlib.Path(folder)
    needed = ["vocab.json", "merges.txt", "tokenizer_config.json"]
    if (folder / _ONE_FILE).is_file():
      needed = ["tokenizer_config.json"]
    for name in needed:
      if not (folder / name).is_file():
        raise ValueError(f"tokenizer: {folder / name} is missing")
    try:
      return cls._load(folder)
    except (
      ArithmeticError,
      AttributeError,
      LookupError,
      RecursionError,
      TypeError,
      ValueError,
    ) as error:
      reason = " ".join(str(error).split())[:300]
      raise ValueError(f"tokenizer: {folder} is damaged: {reason}") from error

  @classmethod
  def _load(cls, folder: pathlib.Path) -> "Tokenizer":
    settings = _read_json(folder / "tokenizer_config.json")
    special = folder / "special_tokens_map.json"
    # As in transformers: it overrules configs that do not list their tokens.
    # The published SD 2.x folders have their padding token only there.
    if special.is_file() and "added_tokens_decoder" not in settings:
      settings |= _read_json(special)
    pad = settings.get("pad_token", END)
    vocab, merges = _read_vocab(folder)
    return cls(
      vocab,
      merges=merges,
      length=settings["model_max_length"],
      pad_token=pad["content"] if isinstance(pad, dict) else pad,
    )

  @classmethod
  def clip(cls, *, pad_token: str = END) -> "Tokenizer":
    """CLIP's own tokenizer: 49408 tokens in rows of 77.

    Args:
      pad_token: The end token for CLIP ViT-L (SD 1.x), "!", which is token 0,
        for OpenCLIP (SD 2.x).
    """
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    base = _base_tokens(letters)
    with gzip.open(_CLIP_MERGES, "rt", encoding="utf-8") as file:
      lines = file.read().splitlines()[1:]
    merges = [
      tuple(line.split()) for line in lines[: CLIP_VOCAB_SIZE - len(base) - 2]
    ]
    tokens = [*base, *("".join(pair) for pair in merges), START, END]
    vocab = {token: index for index, token in enumerate(tokens)}
    return cls(vocab, merges=merges, length=CLIP_LENGTH, pad_token=pad_token)

  def save(self, folder: str | pathlib.Path) -> None:
    """Writes the files `load` and transformers' CLIPTokenizer read."""
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    special = {
      "bos_token": START,
      "eos_token": END,
      "unk_token": END,
      "pad_token": self._pad_token,
    }
    settings = special | {
      "model_max_length": self.length,
      "do_lower_case": True,
      "errors": "replace",
      "tokenizer_class": "CLIPTokenizer",
    }
    merges = ["#version: 0.2", *(" ".join(pair) for pair in self._merges), ""]
    (folder / "merges.txt").write_text("\n".join(merges), encoding="utf-8")
    for name, content in {
      "vocab.json": self._vocab,
      "tokenizer_config.json": settings,
      "special_tokens_map.json": special,
    }.items():
      text = json.dumps(content, ensure_ascii=False, indent=1)
      (folder / name).write_text(text + "\n", encoding="utf-8")

  def __call__(self, texts: Sequence[str]) -> Int32[np.ndarray, "b n"]:
    """Encodes texts; one that does not fit is cut, with a warning saying so."""
    rows = np.full((len(texts), self.length), self.pad_id, np.int32)
    room = self.length - 2
    encodings = self._encoder.encode_batch(
      list(texts), add_special_tokens=False
    )
    for row, text, encoding in zip(rows, texts, encodings, strict=True):
      ids = encoding.ids
      if len(ids) > room:
        kept = encoding.offsets[room - 1][1]
        warnings.warn(
          f"text cut to {self.length} tokens; dropped: {text[kept:].strip()!r}",
          stacklevel=2,
        )
        ids = ids[:room]
      row[: len(ids) + 2] = [self.start_id, *ids, self.end_id]
    return rows


def _base_tokens(letters: Sequence[str]) -> list[str]:
  """What merges start from: bytes, and bytes that end a word."""
  return [*letters, *(letter + "</w>" for letter in letters)]


def _read_vocab(
  folder: pathlib.Path,
) -> tuple[dict[str, int], list[tuple[str, str]]]:
  """Ids and merges, from transformers 4's two files or 5's one."""
  if (folder / "vocab.json").is_file() and (folder / "merges.txt").is_file():
    text = (folder / "merges.txt").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if line.strip()]
    pairs = [line for line in lines if not line.startswith("#version")]
    return _read_json(folder / "vocab.json"), _merges(pairs)
  model = _read_json(folder / _ONE_FILE)["model"]
  return model["vocab"], _merges(model["merges"])


def _merges(pairs: Iterable[str | list[str]]) -> list[tuple[str, str]]:
  """Merges as pairs; files have them as pairs or with a space between."""
  split = (pair.split() if isinstance(pair, str) else pair for pair in pairs)
  return [(first, second) for first, second in split]


def _read_json(path: pathlib.Path) -> dict:
  return json.loads(path.read_text(encoding="utf-8"))


def train_tokenizer(
  captions: Iterable[str],
  vocab_size: int,
  *,
  length: int = 32,
  pad_token: str = END,
) -> Tokenizer:
  """Learns a CLIP-style vocabulary from captions.

  Args:
    captions: Training texts.
    vocab_size: Upper bound on the ids, special tokens included. The 256 bytes
      and their word-final forms take 512 of them.
    length: Tokens in an encoded row.
    pad_token: What fills short rows.
  """
  alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
  base = _base_tokens(alphabet)
  trainer = trainers.BpeTrainer(
    # The trainer counts the word-final letters among its own tokens.
    vocab_size=vocab_size - 2,
    initial_alphabet=alphabet,
    end_of_word_suffix="</w>",
    show_progress=False,
  )
  learner = _pipeline(models.BPE(end_of_word_suffix="</w>"))
  learner.train_from_iterator(captions, trainer)
  merges = [
    tuple(pair) for pair in json.loads(learner.to_str())["model"]["merges"]
  ]
  # CLIP's order of ids: bytes, word-final bytes, merges, special tokens.
  merges = merges[: vocab_size - len(base) - 2]
  tokens = [*base, *("".join(pair) for pair in merges), START, END]
  vocab = {token: index for index, token in enumerate(dict.fromkeys(tokens))}
  return Tokenizer(vocab, merges=merges, length=length, pad_token=pad_token)
