"""The panels of class-to-class edge mass: of the whole graph, and over time."""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd
from ipywidgets import (
    HTML,
    Button,
    HBox,
    Image,
    Layout,
    Select,
    SelectionSlider,
    VBox,
)
from matplotlib import colormaps
from matplotlib.colors import PowerNorm, to_hex
from torch import Tensor

from cnn2gnn.drawing.classnames import in_line, short_names
from cnn2gnn.drawing.palette import SEQUENTIAL
from cnn2gnn.evaluation.nodes import TEST, Node
from cnn2gnn.explore.clickable import ClickableMatrix
from cnn2gnn.explore.markup import line_html, pairs_html
from cnn2gnn.explore.panels import Guard
from cnn2gnn.explore.pictures import figure_png
from cnn2gnn.explore.plots import plots
from cnn2gnn.explore.state import ExplorerState
from cnn2gnn.explore.timeline import Timeline

Go = Callable[[Node], None]


def show_mixing(matrix: ClickableMatrix, mixing: Tensor, classes: tuple[str, ...]) -> None:
    """Show class-to-class edge mass `(C, C)`, as its root: light cells are what one looks for.

    Rows of NaN, of classes without a node, stay empty.
    """
    shades = colormaps[SEQUENTIAL](PowerNorm(0.5, 0, 1)(mixing.numpy()))  # (C, C, 4)
    with matrix.hold_sync():
        matrix.names = list(classes)
        matrix.texts = [
            ["no node" if share != share else f"{share:.3f}" for share in row]
            for row in mixing.tolist()
        ]
        # the map draws NaN without opacity
        matrix.colours = [[to_hex(tuple(shade), True) for shade in row] for row in shades]


class MatrixPanel:
    """Class-to-class edge mass; a click on a cell lists its edges, heaviest first.

    Attributes:
        listed: the edges that are listed.
    """

    def __init__(self, state: ExplorerState, guard: Guard, go: Go) -> None:
        self._state, self._go = state, go
        self.matrix = ClickableMatrix()
        show_mixing(self.matrix, state.edges.mixing, state.nodes.classes)
        self.matrix.observe(guard(self._clicked), "cell")
        self._title, self._pairs = HTML(), HTML()
        self.edges = Select(rows=8, layout=Layout(width="420px"))
        self.edges.observe(guard(self._chosen), "index")  # two edges may have one node
        every = Button(description="all wrong-class edges", layout=Layout(width="180px"))
        every.on_click(guard(self._all))
        adjacency = Button(description="draw adjacency")
        adjacency.on_click(guard(self._draw))
        self._image = Image(format="png", layout=Layout(width="430px", display="none"))
        self._all()
        self.widget = HBox(
            [
                VBox(
                    [self.matrix, HBox([every, adjacency]), self._image],
                    layout=Layout(min_width="440px"),
                ),
                VBox([self._title, self.edges, self._pairs]),
            ]
        )

    def _all(self, _: Button | None = None) -> None:
        self.matrix.cell = []  # none is listed: a click on the last one lists it again
        self._list(("all classes",), self._state.edges.between_classes())

    def _clicked(self, change: dict) -> None:
        if not change["new"]:
            return
        row, column = change["new"]
        names = short_names(self._state.nodes.classes, 40)
        self._list((names[row], names[column]), self._state.edges.of_cell(row, column))

    def _list(self, classes: tuple[str, ...], edges: pd.DataFrame) -> None:
        self.listed = edges
        self._title.value = line_html(
            ("b", classes[0]),
            *[piece for name in classes[1:] for piece in (("text", " → "), ("b", name))],
            ("text", ": the heaviest edges"),
        )
        self.edges.options = [("choose an edge to go there", None)] + [
            (
                f"{edge['weight']:.3f}  test {edge['test']} ({in_line(edge['label'])}) → "
                f"bank {edge['bank']} ({in_line(edge['neighbour_label'])})",
                int(edge["test"]),
            )
            for _, edge in edges.iterrows()
        ]
        self._pairs.value = pairs_html(edges, self._state.nodes)

    def _chosen(self, change: dict) -> None:
        index = change["owner"].value
        if index is not None:
            self._go(Node(TEST, index))

    def _draw(self, _: Button) -> None:
        self._image.value = figure_png(plots(self._state)["adjacency"]())
        self._image.layout.display = None


class TimePanel:
    """The graph's evolution over passes, beside that of another run or of no teacher."""

    def __init__(self, state: ExplorerState, guard: Guard) -> None:
        self._classes = state.nodes.classes
        self.runs: list[tuple[Timeline, ClickableMatrix, HTML]] = [
            (timeline, ClickableMatrix(), HTML())
            for timeline in (state.timeline, state.other)
            if timeline.passes
        ]
        if not self.runs:
            self.widget = VBox([HTML("no snapshots: the run saved none while it was trained")])
            return
        numbers = sorted({number for timeline, *_ in self.runs for number in timeline.passes})
        self.slider = SelectionSlider(options=numbers, value=numbers[-1], description="after pass")
        self.slider.observe(guard(lambda change: self._show(change["new"])), "value")
        curves = Image(value=figure_png(plots(state)["time"]()), format="png")
        sides = HBox([VBox([text, matrix]) for _, matrix, text in self.runs])
        self.widget = VBox([self.slider, sides, curves])
        self._show(numbers[-1])

    def _show(self, number: int) -> None:
        for timeline, matrix, text in self.runs:
            shown = max((n for n in timeline.passes if n <= number), default=timeline.passes[0])
            show_mixing(matrix, timeline.mixing[shown], self._classes)
            measures = timeline.table.loc[shown]
            said = [f"{name.replace('_', ' ')} {value:.3f}" for name, value in measures.items()]
            text.value = line_html(
                ("b", timeline.name), ("text", f", after pass {shown}: {', '.join(said)}")
            )
