"""Names of classes, files and folders, made fit to be shown."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence

from cnn2gnn.base.signs import visible
from cnn2gnn.data.pixels import DataError


def shown(name: object) -> str:
    r"""Return the name of a file as text for people: every sign is seen, none does anything."""
    return visible(composed(name))


def composed(name: object) -> str:
    r"""Return a name as text that every output can carry.

    Python keeps the bytes of a file name that are not UTF-8 as lone surrogates, which nothing can
    print: they become `\xe9`. A Mac writes é as two signs, others as one: both become one (NFC).
    """
    text = re.sub("[\ud800-\udfff]", lambda sign: f"\\x{ord(sign[0]) & 0xFF:02x}", str(name))
    return unicodedata.normalize("NFC", text)


def class_names(names: Sequence[str], source: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the names of the classes, each once, and what was done for that.

    Classes of one name (ImageNet has two cranes, a bird and a machine) are told apart by their
    number: `crane (134)`, `crane (517)`.

    Raises:
        DataError: a name is empty, or breaks a line.
    """
    names = [composed(name) for name in names]
    for name in names:
        if not name.strip() or re.search(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]", name):
            raise DataError(f"{source} has a class named {name!r}: empty, or with control signs")
    counts, taken = Counter(names), set(names)
    found = [f"{name} ({i})" if counts[name] > 1 else name for i, name in enumerate(names)]
    clash = sorted(set(found) & taken - {name for name in names if counts[name] == 1})
    if clash or len(set(found)) < len(found):
        raise DataError(f"{source} has several classes of one name, and one called {clash[:1]}")
    doubles = sorted(name for name in counts if counts[name] > 1)
    notes = [f"classes of one name told apart by their number: {', '.join(doubles)}"]
    return tuple(found), tuple(notes if doubles else ())


class LeftOut:
    """What a loader passes over: how much of each kind, with an example."""

    def __init__(self) -> None:
        self._found: dict[str, list[str]] = {}

    def add(self, kind: str, example: object) -> None:
        """Count one more; `kind` is a plural, such as "hidden files"."""
        self._found.setdefault(kind, []).append(shown(example))

    def notes(self) -> tuple[str, ...]:
        """Return `("left out: hidden files 2 (cat/.a.png, …)",)`, or nothing."""
        told = [
            f"{kind} {len(examples)} ({examples[0]}{', …' if len(examples) > 1 else ''})"
            for kind, examples in self._found.items()
        ]
        return ("left out: " + ", ".join(told),) if told else ()
