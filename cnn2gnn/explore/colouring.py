"""The colour of every node on the map."""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.colors import to_hex

from cnn2gnn.drawing.classnames import apart, short_names
from cnn2gnn.drawing.palette import FAINT, SEQUENTIAL, VERDICTS, class_colours
from cnn2gnn.evaluation.nodes import BANK, RunNodes
from cnn2gnn.explore.table import bank_degree

COLOURINGS = ("class", "prediction", "correctness", "disagreement", "confidence", "degree")
_BINS = 6


class Colouring(NamedTuple):
    """`codes` `(N + M,)` number the `colours`, which are called `names`, long ones shortened."""

    codes: np.ndarray
    colours: list[str]
    names: list[str]


def colouring(nodes: RunNodes, table: pd.DataFrame, by: str) -> Colouring:
    """Return the colours of all N + M nodes; bank nodes are grey where nothing is known of them.

    Args:
        by: class, prediction, correctness (with and without the graph), disagreement (total
            variation between student and teacher), confidence or degree (edges of a node: to its
            neighbours for a test node, from test nodes for a bank node).

    Raises:
        ValueError: `by` is none of these.
    """
    classes = list(short_names(nodes.classes))
    if by == "class":
        return Colouring(nodes.together(nodes.labels).numpy(), class_colours(len(classes)), classes)
    if by == "prediction":
        codes = nodes.logits.argmax(1).numpy()
        return _with_bank(nodes, Colouring(codes, class_colours(len(classes)), classes))
    if by == "correctness":
        codes = pd.Categorical(table["verdict"], list(VERDICTS)).codes
        return _with_bank(nodes, Colouring(codes, list(VERDICTS.values()), list(VERDICTS)))
    if by in ("disagreement", "confidence"):
        edges = np.linspace(0, 1, _BINS + 1)
        names = [f"{low:.2f}–{high:.2f}" for low, high in pairwise(edges)]
        return _with_bank(nodes, _binned(table[by].to_numpy(), edges, names))
    if by == "degree":
        degrees = np.concatenate([table["degree"].to_numpy(), bank_degree(nodes)])
        edges = np.unique(np.linspace(0, degrees.max() + 1, _BINS + 1).astype(int))
        names = [f"{low}–{end - 1}" if low < end - 1 else str(low) for low, end in pairwise(edges)]
        return _binned(degrees, edges, names)
    raise ValueError(f"colour={by!r} must be one of {', '.join(COLOURINGS)}")


def _with_bank(nodes: RunNodes, test: Colouring) -> Colouring:
    codes = np.concatenate([test.codes, np.full(len(nodes.bank), len(test.colours))])
    return Colouring(codes, [*test.colours, FAINT], [*test.names, apart(BANK, test.names)])


def _binned(values: np.ndarray, edges: np.ndarray, names: list[str]) -> Colouring:
    codes = np.clip(np.digitize(values, edges) - 1, 0, len(names) - 1)
    colours = [to_hex(colormaps[SEQUENTIAL](place)) for place in np.linspace(0, 1, len(names))]
    return Colouring(codes, colours, names)
