"""Class names where people read them: they are the user's and may hold anything.

`readable` makes every sign visible and no two names alike, so that a table may be keyed by them.
HTML is escaped by its templates, LaTeX by `report.latex`, and what matplotlib takes for mathematics
by `drawing.lettering`; nobody else changes a name.
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Collection, Sequence

from cnn2gnn.base.signs import visible

_ISOLATE, _END_OF_ISOLATE = "\u2068", "\u2069"


def readable(names: Sequence[str]) -> tuple[str, ...]:
    r"""Return the names with every sign visible, each one once.

    >>> readable(["crane", "crane", "a\nb", ""])
    ('crane (1)', 'crane (2)', 'a\\nb', "''")
    """
    return distinct([_visible(name) for name in names])


def distinct(names: Sequence[str]) -> tuple[str, ...]:
    """Number the names that occur more than once, in their order."""
    occurring, taken, numbers = Counter(names), set(names), Counter[str]()
    told_apart = []
    for name in names:
        shown = name
        while occurring[name] > 1 and shown in taken:
            numbers[name] += 1
            shown = f"{name} ({numbers[name]})"
        taken.add(shown)
        told_apart.append(shown)
    return tuple(told_apart)


def shortened(name: str, most: int = 24) -> str:
    """The beginning and the end of a name of more than `most` letters, at least 4."""
    if len(name) <= most:
        return name
    tail = most // 3
    return f"{name[: most - tail - 1]}…{name[-tail:]}"


def short_names(names: Sequence[str], most: int = 24) -> tuple[str, ...]:
    """All names shortened, each one once still."""
    return distinct([shortened(name, most) for name in names])


def apart(word: str, names: Collection[str]) -> str:
    """A word of ours, in parentheses where a class is called so."""
    while word in names:
        word = f"({word})"
    return word


def isolated(name: str) -> str:
    """A name for a line of plain text: written from right to left, it leaves the rest in order."""
    return f"{_ISOLATE}{name}{_END_OF_ISOLATE}"


def in_line(name: str) -> str:
    """A name within a line of a list, shortened and isolated."""
    return isolated(shortened(name))


def _visible(name: str) -> str:
    shown = visible(unicodedata.normalize("NFC", name))
    return shown if shown.strip() else repr(shown)
