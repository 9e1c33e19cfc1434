"""Names as matplotlib can draw them.

It takes what stands between two dollars for mathematics, leaves names that begin with an underscore
out of legends, and warns of every letter that its font lacks. A name may hold all three.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from functools import cache

from matplotlib.font_manager import FontProperties, findfont, get_font, get_font_names

from cnn2gnn.drawing.classnames import distinct, shortened

# asked after matplotlib's own font, where they are installed: it has no Chinese, Indic or Thai
_FALLBACKS = (
    "Noto Sans CJK SC", "Noto Sans CJK JP", "Noto Sans CJK KR", "Droid Sans Fallback",
    "WenQuanYi Zen Hei", "Microsoft YaHei", "Yu Gothic", "Malgun Gothic", "Hiragino Sans GB",
    "Arial Unicode MS", "Noto Sans Devanagari", "Noto Sans Thai", "Nirmala UI", "Symbola",
    "Segoe UI Symbol",
)  # fmt: skip
_LACKING = "□"
LONGEST = 16  # letters of a name along a column


@cache
def families() -> list[str]:
    """Font families in the order in which they are asked for a letter."""
    installed = set(get_font_names())
    return ["sans-serif", *[name for name in _FALLBACKS if name in installed]]


def plain(text: str) -> str:
    """A text without mathematics and without letters that no font at hand has."""
    if not text.isascii():
        text = "".join(map(_drawable, text))
    text = text.replace("$", r"\$")
    return f"\u2009{text}" if text.startswith("_") else text  # a thin space


def plain_name(name: str, most: int = LONGEST) -> str:
    """A name as a plot has room for it."""
    return plain(shortened(name, most))


def plain_names(names: Sequence[str], most: int = LONGEST) -> tuple[str, ...]:
    """All names as a plot has room for them, each one once still."""
    return distinct([plain_name(name, most) for name in names])


def _drawable(letter: str) -> str:
    if ord(letter) in _letters():
        return letter
    # joiners and variation selectors take no room
    return "" if unicodedata.category(letter) in ("Cf", "Mn") else _LACKING


@cache
def _letters() -> frozenset[int]:
    fonts = [get_font(findfont(FontProperties(family=[family]))) for family in families()]
    return frozenset().union(*(font.get_charmap() for font in fonts))
