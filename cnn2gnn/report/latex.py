r"""Tables for LaTeX, whatever their cells hold; they need the packages booktabs and graphicx.

pdfLaTeX knows the Latin letters. Of all others it shows the number (U+732B), while LuaLaTeX and
XeLaTeX, which are the ones that have \Umathchar, show the letter if their font has it.
"""

from __future__ import annotations

import re
import unicodedata

import pandas as pd

from cnn2gnn.drawing.classnames import shortened

LONGEST = 48  # letters of a cell
# wider than the column, a table is shrunk to it
_FITTED = (
    r"\centering\footnotesize\setlength{\tabcolsep}{3pt}"
    r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%"
)
# [ and * would be arguments of the \\ before them; <, > and | are other signs in its usual font
_SIGNS = str.maketrans(
    {sign: f"\\{sign}" for sign in "&%$#_{}"}
    | {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    | {"<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}", "`": r"\textasciigrave{}"}
    | {"[": "{[}", "*": "{*}"}
)
_MARKS = frozenset("\u0300\u0301\u0302\u0303\u0304\u0306\u0307\u0308\u030a\u030b\u030c\u0327")
_OTHERS = frozenset("ßæœøłÆŒØŁ±·×µ°–—‘’“”…→←")


def latex_table(table: pd.DataFrame, caption: str, label: str) -> str:
    """A table of texts as a LaTeX float; long cells are shortened."""
    escaped = table.map(lambda cell: latex_text(shortened(str(cell), LONGEST)))
    escaped.columns = pd.Index([latex_text(str(name)) for name in table.columns])
    tex = escaped.to_latex(
        index=False,
        caption=latex_text(caption),
        label=label,
        escape=False,
        column_format="l" + "r" * (table.shape[1] - 1),
    )
    tex = tex.replace("\\begin{tabular}", f"{_FITTED}\n\\begin{{tabular}}", 1)
    return tex.replace("\\end{tabular}", "\\end{tabular}}", 1)


def latex_text(text: str) -> str:
    """A text as LaTeX sets it: every sign as it stands there."""
    apart = re.sub("-(?=-)", "-\0", unicodedata.normalize("NFC", text))  # -- would be a dash
    return "".join(map(_letter, apart.translate(_SIGNS))).replace("\0", "{}")


def _letter(letter: str) -> str:
    if letter.isascii() or letter in _OTHERS or _accented(letter):
        return letter
    return rf"\ifdefined\Umathchar {letter}\else\texttt{{U+{ord(letter):04X}}}\fi{{}}"


def _accented(letter: str) -> bool:
    parts = unicodedata.normalize("NFD", letter)
    return len(parts) == 2 and parts[0].isascii() and parts[1] in _MARKS and ord(letter) < 0x180
