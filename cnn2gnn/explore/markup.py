"""HTML of the panels: quicker than a figure, and as sharp as text."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
from markupsafe import Markup

from cnn2gnn.drawing.classnames import short_names, shortened
from cnn2gnn.drawing.palette import AGAINST, FOR, MODELS, VERDICTS
from cnn2gnn.drawing.templating import render
from cnn2gnn.evaluation.nodes import BANK, TEST, Node, RunNodes
from cnn2gnn.explore.card import NodeCard
from cnn2gnn.explore.pictures import thumbnail
from cnn2gnn.explore.whatif import Prediction

_PACKAGE = "cnn2gnn.explore"
_LONGEST = 40  # letters of a class name in a table


def card_html(card: NodeCard, image: str, player: Markup | None = None) -> str:
    """The image (and text or sound) of a node, its label, its verdict, and what each model says."""
    return render(
        _PACKAGE,
        "card.html.j2",
        card=card,
        image=image,
        player=player,
        models=MODELS,
        verdicts=VERDICTS,
    )


def change_html(before: Prediction, after: Prediction, classes: Sequence[str], label: int) -> str:
    """The likeliest classes' probabilities before and after a change of the graph."""
    best = (before.probabilities + after.probabilities).topk(min(5, len(classes))).indices.tolist()
    best = list(dict.fromkeys([before.predicted, after.predicted, label, *best]))[:5]
    names = short_names(classes, _LONGEST)
    old, new = before.probabilities.tolist(), after.probabilities.tolist()
    return render(
        _PACKAGE,
        "change.html.j2",
        before=before,
        after=after,
        said=names[before.predicted],
        now=names[after.predicted],
        colour=FOR if after.predicted == label else AGAINST,
        rows=[(names[index], index == label, old[index], new[index]) for index in best],
    )


def ranking_html(ranking: pd.DataFrame, most: int = 12) -> str:
    """Edges by what removing each does to the probability of the predicted class."""
    shown = _shortened(ranking.head(most), "label", "predicted")
    return render(_PACKAGE, "ranking.html.j2", ranking=shown, speaks_for=FOR, against=AGAINST)


def pairs_html(edges: pd.DataFrame, nodes: RunNodes, most: int = 12) -> str:
    """Edges as pairs of images, a test node beside the bank node it looks at."""
    shown = _shortened(edges.head(most), "label", "neighbour_label")
    pairs = [
        (
            thumbnail(nodes.image(Node(TEST, edge.test))),
            thumbnail(nodes.image(Node(BANK, edge.bank))),
            edge,
        )
        for edge in shown.itertuples()
    ]
    return render(_PACKAGE, "pairs.html.j2", pairs=pairs)


def line_html(*pieces: tuple[str, str]) -> str:
    """One line; each piece is a kind and a text: `b` is bold, a `name` keeps its direction."""
    return render(_PACKAGE, "line.html.j2", pieces=pieces)


def error_html(line: str, whole: str) -> str:
    """An error in one line, and under it all there is to say."""
    return render(_PACKAGE, "error.html.j2", line=line, whole=whole)


def _shortened(table: pd.DataFrame, *columns: str) -> pd.DataFrame:
    """The table with the class names of some columns shortened."""
    short = {name: [shortened(label, _LONGEST) for label in table[name]] for name in columns}
    return table.assign(**short)
