"""The map: all nodes as points, previews on hover, lasso, edges of the selected node."""

from __future__ import annotations

from collections.abc import Callable

import jscatter
import numpy as np
import pandas as pd
from torch import Tensor

from cnn2gnn.drawing.palette import EDGE, INK
from cnn2gnn.evaluation.nodes import BANK, TEST, Node
from cnn2gnn.explore.colouring import COLOURINGS
from cnn2gnn.explore.pictures import thumbnail
from cnn2gnn.explore.state import ExplorerState

_PREVIEWS_AT_ONCE = 2000  # the others follow in the background
_IN_LEGEND = 25  # names: a longer list would cover the points and what stands below the map
MARGIN = 0.04  # of the map's extent on each side: points at its border are not cut


class MapPanel:
    """jupyter-scatter over a state.

    Args:
        on_rows: called with the rows that were clicked or lassoed.
    """

    def __init__(self, state: ExplorerState, on_rows: Callable[[np.ndarray], None]) -> None:
        self.state, self._on_rows = state, on_rows
        x, y = state.places.numpy().T
        self._colours = {by: state.colours(by) for by in COLOURINGS}
        categories = {
            by: pd.Categorical.from_codes(found.codes, found.names)
            for by, found in self._colours.items()
        }
        nodes = state.nodes
        part = np.repeat([0, 1], [len(nodes), len(nodes.bank)])
        self._frame = pd.DataFrame(
            {
                "x": x,
                "y": y,
                "part": pd.Categorical.from_codes(part, [TEST, BANK]),
                "image": "",
                "node": [str(nodes.node(row)) for row in range(nodes.rows)],
                "true label": categories["class"],
                **categories,
            }
        )
        self.scatter = jscatter.Scatter(
            data=self._frame, x="x", y="y", height=460, **_scales(state.places)
        )
        self.scatter.size(by="part", map={TEST: 6, BANK: 3})
        self.scatter.opacity(by="part", map={TEST: 0.95, BANK: 0.35}, unselected=0.25)
        self.scatter.tooltip(
            True,
            properties=["node", "true label", "prediction", "correctness"],
            histograms=False,
            preview="image",
            preview_type="image",
            preview_image_size="contain",
        )
        self.scatter.axes(False)
        self.colour("class")
        self.widget = self.scatter.widget
        self.widget.observe(self._selected, "selection")
        self._fill(0, _PREVIEWS_AT_ONCE)

    def colour(self, by: str) -> None:
        """Colour the points; see `colouring`."""
        found = self._colours[by]
        self.scatter.color(by=by, map=dict(zip(found.names, found.colours, strict=True)))
        self.scatter.legend(len(found.names) <= _IN_LEGEND)

    def move(self) -> None:
        """Follow the state's coordinates."""
        x, y = self.state.places.numpy().T
        self.scatter.xy(x, y, animate=False, **_scales(self.state.places))
        self.mark()

    def mark(self) -> None:
        """Draw a frame around the selected node, and those of its edges that pass the filter.

        They are as wide as their weight.
        """
        state, prediction = self.state, self.state.edited()
        places = state.places
        x, y = places[state.nodes.row(state.selected)].tolist()
        half_x, half_y = ((places.amax(0) - places.amin(0)) / 80).tolist()
        frame = jscatter.Rect(
            x - half_x, x + half_x, y - half_y, y + half_y, line_color=INK, line_width=2
        )
        edges = [
            jscatter.Line(
                [(x, y), tuple(places[state.nodes.row(node)].tolist())],
                line_color=EDGE,
                line_width=max(1, round(12 * weight)),
            )
            for node, weight in zip(prediction.neighbours, prediction.weights.tolist(), strict=True)
            if weight > 0 and weight >= state.filters.min_weight
        ]
        self.scatter.annotations([frame, *edges])

    def show(self, rows: np.ndarray) -> None:
        """Show these rows as selected."""
        if not np.array_equal(rows, self.scatter.selection()):
            self.scatter.selection(rows if len(rows) else None)

    def only(self, listed: np.ndarray) -> None:
        """Of test nodes and edges, show only those that pass the filters; the bank stays."""
        tests, rows = len(self.state.nodes), self.state.nodes.rows
        every = len(listed) == tests
        self.scatter.filter(None if every else np.r_[np.sort(listed), tests:rows])
        self.mark()

    def fill_previews(self) -> None:
        """Make the previews that were not made at once; meant for a thread."""
        self._fill(_PREVIEWS_AT_ONCE, self.state.nodes.rows)

    def _fill(self, start: int, stop: int) -> None:
        nodes, column = self.state.nodes, self._frame.columns.get_loc("image")
        rows = range(start, min(stop, nodes.rows))
        found = [thumbnail(nodes.image(nodes.node(row))) for row in rows]
        self._frame.iloc[start : start + len(found), column] = found

    def _selected(self, change: dict) -> None:
        rows = change["new"]
        self._on_rows(np.empty(0, dtype=np.int64) if rows is None else rows.astype(np.int64))


def clicked_node(state: ExplorerState, rows: np.ndarray) -> Node | None:
    """The node of a click; a lasso around several is none."""
    return state.nodes.node(int(rows[0])) if len(rows) == 1 else None


def _scales(places: Tensor) -> dict[str, tuple[float, float]]:
    """What the axes span: the places `(R, 2)` and a margin around them."""
    low, high = places.amin(0), places.amax(0)  # (2,)
    margin = MARGIN * (high - low)
    ends = zip((low - margin).tolist(), (high + margin).tolist(), strict=True)
    return dict(zip(("x_scale", "y_scale"), ends, strict=True))
