"""One set of colours for explorer and report: safe for colour-blind readers, a class keeps its own.

Class colours are the ten of M. A. Petroff, "Accessible Color Sequences for Data Visualization",
2021 (arXiv 2107.02270); pairs of opposites are from Okabe & Ito, "Color Universal Design", 2008.
"""

from __future__ import annotations

from matplotlib.colors import to_hex, to_rgb

_CLASSES = (
    "#3f90da", "#ffa90e", "#bd1f01", "#94a4a2", "#832db6",
    "#a96b59", "#e76300", "#b9ac70", "#717581", "#92dadd",
)  # fmt: skip

# what speaks for a prediction and what against it; right and wrong
FOR = CORRECT = "#0072b2"
AGAINST = WRONG = "#d55e00"
RESCUED = "#009e73"  # right with the graph, wrong without
HARMED = "#cc79a7"  # wrong with the graph, right without
FAINT = "#d4d4d4"  # the bank behind the test images, whatever is not selected
INK = "#333333"
EDGE = "#333333"
SEQUENTIAL = "cividis"  # a colour map for masses and confidences
DIVERGING = "PuOr"

MODELS = {
    "teacher": "#009e73",
    "student": "#0072b2",
    "no_graph": "#e69f00",
    "twin": "#e69f00",
    "undistilled": "#cc79a7",
}
VERDICTS = {"correct": CORRECT, "rescued": RESCUED, "harmed": HARMED, "wrong": WRONG}


def class_colours(count: int) -> list[str]:
    """Return one colour `#rrggbb` per class.

    The first ten differ in hue. Beyond them the hues repeat, darker and lighter by turns: more
    than ten colours cannot be told apart without a label anyway.
    """
    shades = (0.0, -0.35, 0.45, -0.55, 0.65)
    return [
        _shaded(_CLASSES[index % len(_CLASSES)], shades[index // len(_CLASSES) % len(shades)])
        for index in range(count)
    ]


def _shaded(colour: str, amount: float) -> str:
    """Mix a colour with black (amount < 0) or white (amount > 0)."""
    towards = 1.0 if amount > 0 else 0.0
    share = abs(amount)
    red, green, blue = ((1 - share) * part + share * towards for part in to_rgb(colour))
    return to_hex((red, green, blue))
