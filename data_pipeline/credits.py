"""Attribution of the objects: who made what, under which licence."""

import collections
from collections.abc import Iterable

from data_pipeline import objects

LICENCES = {
  "CC0-1.0": "https://creativecommons.org/publicdomain/zero/1.0/",
  "CC-BY-3.0": "https://creativecommons.org/licenses/by/3.0/",
  "CC-BY-3.0-US": "https://creativecommons.org/licenses/by/3.0/us/",
  "CC-BY-4.0": "https://creativecommons.org/licenses/by/4.0/",
}
# Licences that ask for no attribution.
_PUBLIC_DOMAIN = frozenset({"CC0-1.0"})
_HEADER = """\
# Credits

## CLIP's vocabulary: [MIT](mvjax/assets/clip_bpe/LICENSE)

`mvjax/assets/clip_bpe/` holds the byte-pair vocabulary of OpenAI's CLIP, from
the distribution of OpenCLIP. Copyright (c) 2021 OpenAI.

## model-viewer: [Apache-2.0](mvjax/assets/model_viewer/LICENSE)

`mvjax/assets/model_viewer/` holds Google's `<model-viewer>` as built by its
authors, with three.js, lit, gainmap-js and fflate inside; their licences are
beside it. Result pages carry a copy.

# Credits for the 3D objects

Models in `checkpoints/`, pictures in the documentation and every render that
`launch.py data render` makes are derived from the 3D models below. They were
rendered, re-coloured and re-textured; their authors do not endorse the result.
"""


def markdown(things: Iterable[objects.Object]) -> str:
  """A credits file: per library and licence, names by creator.

  Objects in the public domain are counted, with thanks, but not listed.

  Raises:
    ValueError: An object that is not in the public domain names no creator
      or no licence.
  """
  groups = collections.defaultdict(list)
  for thing in things:
    free = thing.licence in _PUBLIC_DOMAIN
    missing = [f for f in ("creator", "licence") if not getattr(thing, f)]
    if missing and not free:
      raise ValueError(
        f"{thing.uid}: no {' and no '.join(missing)}; complete the captions "
        "file, or leave the object out"
      )
    groups[thing.library, thing.licence].append(thing)

  lines = [_HEADER]
  for (library, licence), members in sorted(groups.items()):
    url = LICENCES.get(licence)
    lines.append(f"## {library}: {f'[{licence}]({url})' if url else licence}\n")
    by_creator = collections.defaultdict(collections.Counter)
    for thing in members:
      by_creator[thing.creator][thing.name] += 1
    if licence in _PUBLIC_DOMAIN:
      creators = ", ".join(sorted(filter(None, by_creator)))
      thanks = f", by {creators}" if creators else ""
      lines.append(f"{len(members)} objects in the public domain{thanks}.\n")
      continue
    for creator, names in sorted(by_creator.items()):
      listed = ", ".join(
        name if count == 1 else f"{name} ({count})"
        for name, count in sorted(names.items())
      )
      lines.append(f"* **{creator}**: {listed}")
    lines.append("")
  return "\n".join(lines).rstrip() + "\n"
