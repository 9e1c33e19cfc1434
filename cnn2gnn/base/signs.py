"""Signs that do something instead of being seen: in a console, a page or a line of text.

Names of files and classes are the user's and may hold anything: a line break, the escape that
clears a terminal or paints it, a mark that turns the direction of all the text that follows.
"""

from __future__ import annotations

import unicodedata

# control characters, halves of surrogate pairs (bytes of a file name that are no UTF-8), line and
# paragraph separators
_INVISIBLE = {"Cc", "Cs", "Zl", "Zp"}
# what turns the direction of all the text that follows, a byte order mark, what XML cannot hold
_UNRULY = {*map(chr, [*range(0x202A, 0x202F), *range(0x2066, 0x206A), 0xFEFF, 0xFFFE, 0xFFFF])}


def visible(text: str) -> str:
    r"""Return a text with such signs written out.

    >>> visible("a\nb\x1b[31m")
    'a\\nb\\x1b[31m'
    """
    return "".join(sign.encode("unicode_escape").decode() if _acts(sign) else sign for sign in text)


def _acts(sign: str) -> bool:
    return unicodedata.category(sign) in _INVISIBLE or sign in _UNRULY
