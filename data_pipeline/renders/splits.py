"""Who is kept from whom: decided by hashes of names, never by order.

A text test needs a pair (noun, material) that a model has not seen; a
geometry test needs an object that it has not seen. Objects are held out
only where another object of the same name stays in training.
"""

import collections
import hashlib
from collections.abc import Iterable

OBJECTS_PER_HELD_OUT = 5
"""One object in five of a name is held out, and at least one."""

PAIRS_PER_HELD_OUT = 8
"""One pair (noun, material) in eight is held out."""


def held_out_objects(named: Iterable[tuple[str, str]]) -> frozenset[str]:
  """The uids that no model trains on.

  Args:
    named: (uid, name) of every object. Names are compared without case.

  Returns:
    Uids of names with two or more objects; never all objects of a name.
  """
  by_name = collections.defaultdict(list)
  for uid, name in named:
    by_name[name.strip().casefold()].append(uid)
  chosen = []
  for uids in by_name.values():
    count = max(1, len(uids) // OBJECTS_PER_HELD_OUT) if len(uids) > 1 else 0
    chosen += sorted(uids, key=_digest)[:count]
  return frozenset(chosen)


def pair(noun: str, material: str | None) -> tuple[str, str]:
  """What a text can name, and what is therefore held out as one.

  Every object of a noun has the same pair: were one leather sofa held out
  and another shown, the text "a leather sofa" would not be new. So the noun is
  that of the captions, where a black table is a table too.
  """
  return noun.strip().casefold(), material or ""


def held_out_pair(pair: tuple[str, str]) -> bool:
  """Whether no multi-view model trains on a pair: about one in eight.

  A look in the object's own materials names no pair and is never held out.
  """
  _, material = pair
  return (
    bool(material) and _digest("\n".join(pair))[1] % PAIRS_PER_HELD_OUT == 0
  )


def seen_by_image_model(pair: tuple[str, str]) -> bool:
  """Whether the 2D model trains on a held-out pair: about half of them.

  The answer depends on the pair alone: adding objects changes nothing.
  """
  return _digest("\n".join(pair))[0] % 2 == 0


def _digest(text: str) -> bytes:
  return hashlib.sha256(text.encode()).digest()
