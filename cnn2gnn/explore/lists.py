"""The filtered list of test nodes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from ipywidgets import (
    HTML,
    Button,
    Checkbox,
    Dropdown,
    FloatRangeSlider,
    FloatSlider,
    HBox,
    Layout,
    Select,
    SelectMultiple,
    VBox,
)

from cnn2gnn.drawing.classnames import in_line
from cnn2gnn.evaluation.nodes import TEST, Node
from cnn2gnn.evaluation.verdicts import VERDICTS
from cnn2gnn.explore.markup import line_html
from cnn2gnn.explore.panels import Guard
from cnn2gnn.explore.state import ExplorerState
from cnn2gnn.explore.table import SORTINGS

Go = Callable[[Node], None]

_MOST = 300  # lines of a list


class ListPanel:
    """Filters, sorting, and the list of what passes.

    Args:
        filtered: called with the indices that pass.
    """

    def __init__(
        self, state: ExplorerState, guard: Guard, go: Go, filtered: Callable[[np.ndarray], None]
    ) -> None:
        self._state, self._go, self._filtered = state, go, filtered
        wide = {"style": {"description_width": "90px"}}
        late = {**wide, "continuous_update": False}
        self.controls = {
            "classes": SelectMultiple(options=state.nodes.classes, description="classes", **wide),
            "verdicts": SelectMultiple(options=VERDICTS, rows=4, description="verdict", **wide),
            "disagree": Checkbox(False, description="teacher disagrees"),
            "confidence": FloatRangeSlider(
                value=(0, 1), min=0, max=1, step=0.01, description="confidence", **late
            ),
            "min_weight": FloatSlider(
                0, min=0, max=1, step=0.01, description="edge at least", **late
            ),
            "sort": Dropdown(options=SORTINGS, description="sort by", **wide),
        }
        for name, control in self.controls.items():
            control.observe(guard(self._setter(name)), "value")
        self._count = HTML()
        self.nodes = Select(rows=14, layout=Layout(width="430px"))
        self.nodes.observe(guard(self._chosen), "index")
        effects = Button(description="edges that matter most", layout=Layout(width="190px"))
        effects.tooltip = "of the lassoed nodes, or of the first listed ones"
        effects.on_click(guard(self._rank))
        self.effects = Select(rows=14, layout=Layout(width="430px"))
        self.effects.observe(guard(self._chosen), "index")  # two edges may have one node
        self.widget = HBox(
            [
                VBox(list(self.controls.values()), layout=Layout(width="360px")),
                VBox([self._count, self.nodes]),
                VBox([effects, self.effects]),
            ]
        )
        self._list(state.listed)

    def refresh(self) -> None:
        """Show the state's filters; a control that changes lists anew what passes."""
        for name, control in self.controls.items():
            control.value = getattr(self._state.filters, name)

    def _setter(self, name: str) -> Callable[[dict], None]:
        def set_value(change: dict) -> None:
            if (name, change["new"]) == ("sort", "batch_sensitivity"):
                self._state.compute_sensitivity()
            listed = self._state.with_filters(**{name: change["new"]})
            self._list(listed)
            self._filtered(listed)

        return set_value

    def _list(self, listed: np.ndarray) -> None:
        table = self._state.table.loc[listed[:_MOST]]
        self._count.value = line_html(
            ("text", f"{len(listed)} of {len(self._state.nodes)} test nodes")
        )
        extra = "batch_sensitivity" if "batch_sensitivity" in table else "disagreement"
        self.nodes.options = [("choose a node to go there", None)] + [
            (
                f"test {line.Index}: {in_line(line.label)} → {in_line(line.predicted)} "
                f"({line.verdict}), {line.confidence:.2f}, "
                f"{extra.replace('_', ' ')} {getattr(line, extra):.3f}",
                line.Index,
            )
            for line in table.itertuples()
        ]

    def _rank(self, _: Button) -> None:
        state = self._state
        chosen = state.selection[state.selection < len(state.nodes)]
        indices = chosen if len(chosen) else state.listed
        edges = state.rank_edges_of(indices[:_MOST]).head(_MOST)
        self.effects.options = [("choose an edge to go there", None)] + [
            (
                f"{edge.change:+.3f}{' flips' if edge.flips else ''}  test {edge.test} → "
                f"bank {edge.bank}, weight {edge.weight:.3f}",
                edge.test,
            )
            for edge in edges.itertuples()
        ]

    def _chosen(self, change: dict) -> None:
        index = change["owner"].value
        if index is not None:
            self._go(Node(TEST, index))
