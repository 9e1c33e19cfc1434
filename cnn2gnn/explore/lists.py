"""The panels over all nodes: class matrix, filtered list, time, export."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
from ipywidgets import (
    HTML,
    Button,
    Checkbox,
    Dropdown,
    FloatRangeSlider,
    FloatSlider,
    HBox,
    Image,
    Layout,
    Select,
    SelectionSlider,
    SelectMultiple,
    Text,
    VBox,
)
from matplotlib import colormaps
from matplotlib.colors import PowerNorm, to_hex
from torch import Tensor

from cnn2gnn.evaluation.nodes import TEST, Node
from cnn2gnn.explore import export
from cnn2gnn.explore.clickable import ClickableMatrix
from cnn2gnn.explore.markup import pairs_html
from cnn2gnn.explore.panels import Guard
from cnn2gnn.explore.pictures import figure_png
from cnn2gnn.explore.state import ExplorerState
from cnn2gnn.explore.table import SORTINGS, VERDICTS
from cnn2gnn.explore.timeline import Timeline
from cnn2gnn.explore.views import views
from cnn2gnn.palette import SEQUENTIAL

_MOST = 300  # lines of a list
Go = Callable[[Node], None]


def show_mixing(matrix: ClickableMatrix, mixing: Tensor, classes: tuple[str, ...]) -> None:
    """Show class-to-class edge mass `(C, C)`, as its root: light cells are what one looks for."""
    shades = colormaps[SEQUENTIAL](PowerNorm(0.5, 0, 1)(mixing.numpy()))  # (C, C, 4)
    with matrix.hold_sync():
        matrix.names = list(classes)
        matrix.texts = [[f"{share:.3f}" for share in row] for row in mixing.tolist()]
        matrix.colours = [[to_hex(tuple(shade)) for shade in row] for row in shades]


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
        self.edges.observe(guard(self._chosen), "value")
        every = Button(description="all wrong-class edges", layout=Layout(width="180px"))
        every.on_click(guard(lambda _: self._list("all classes", state.edges.between_classes())))
        adjacency = Button(description="draw adjacency")
        adjacency.on_click(guard(self._draw))
        self._image = Image(format="png", layout=Layout(width="430px", display="none"))
        self._list("all classes", state.edges.between_classes())
        self.widget = HBox(
            [
                VBox(
                    [self.matrix, HBox([every, adjacency]), self._image],
                    layout=Layout(min_width="440px"),
                ),
                VBox([self._title, self.edges, self._pairs]),
            ]
        )

    def _clicked(self, change: dict) -> None:
        row, column = change["new"]
        names = self._state.nodes.classes
        self._list(f"{names[row]} → {names[column]}", self._state.edges.of_cell(row, column))

    def _list(self, title: str, edges: pd.DataFrame) -> None:
        self.listed = edges
        self._title.value = f"<b>{title}</b>: the heaviest edges"
        self.edges.options = [("choose an edge to go there", None)] + [
            (
                f"{edge['weight']:.3f}  test {edge['test']} ({edge['label']}) → "
                f"bank {edge['bank']} ({edge['neighbour_label']})",
                int(edge["test"]),
            )
            for _, edge in edges.iterrows()
        ]
        self._pairs.value = pairs_html(edges, self._state.nodes)

    def _chosen(self, change: dict) -> None:
        if change["new"] is not None:
            self._go(Node(TEST, change["new"]))

    def _draw(self, _: Button) -> None:
        self._image.value = figure_png(views(self._state)["adjacency"]())
        self._image.layout.display = None


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
        self.nodes.observe(guard(self._chosen), "value")
        effects = Button(description="edges that matter most", layout=Layout(width="190px"))
        effects.tooltip = "of the lassoed nodes, or of the first listed ones"
        effects.on_click(guard(self._rank))
        self.effects = Select(rows=14, layout=Layout(width="430px"))
        self.effects.observe(guard(self._chosen), "value")
        self.widget = HBox(
            [
                VBox(list(self.controls.values()), layout=Layout(width="360px")),
                VBox([self._count, self.nodes]),
                VBox([effects, self.effects]),
            ]
        )
        self._list(state.listed)

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
        self._count.value = f"{len(listed)} of {len(self._state.nodes)} test images"
        extra = "batch_sensitivity" if "batch_sensitivity" in table else "disagreement"
        self.nodes.options = [("choose a node to go there", None)] + [
            (
                f"test {line.Index}: {line.label} → {line.predicted} ({line.verdict}), "
                f"{line.confidence:.2f}, {extra.replace('_', ' ')} {getattr(line, extra):.3f}",
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
        if change["new"] is not None:
            self._go(Node(TEST, change["new"]))


class TimePanel:
    """The graph's evolution over saved epochs, beside that of another run or of no teacher."""

    def __init__(self, state: ExplorerState, guard: Guard) -> None:
        self._classes = state.nodes.classes
        self.runs: list[tuple[Timeline, ClickableMatrix, HTML]] = [
            (timeline, ClickableMatrix(), HTML())
            for timeline in (state.timeline, state.other)
            if timeline.epochs
        ]
        if not self.runs:
            self.widget = VBox([HTML("no snapshots: the run saved none while it was trained")])
            return
        epochs = sorted({epoch for timeline, *_ in self.runs for epoch in timeline.epochs})
        self.epoch = SelectionSlider(options=epochs, value=epochs[-1], description="after epoch")
        self.epoch.observe(guard(lambda change: self._show(change["new"])), "value")
        curves = Image(value=figure_png(views(state)["time"]()), format="png")
        sides = HBox([VBox([text, matrix]) for _, matrix, text in self.runs])
        self.widget = VBox([self.epoch, sides, curves])
        self._show(epochs[-1])

    def _show(self, epoch: int) -> None:
        for timeline, matrix, text in self.runs:
            shown = max((e for e in timeline.epochs if e <= epoch), default=timeline.epochs[0])
            show_mixing(matrix, timeline.mixing[shown], self._classes)
            numbers = timeline.table.loc[shown]
            text.value = f"<b>{timeline.name}</b>, after epoch {shown}: " + ", ".join(
                f"{name.replace('_', ' ')} {value:.3f}" for name, value in numbers.items()
            )


class ExportPanel:
    """Buttons that write what is selected and what is seen; files are named below them.

    Args:
        edges: returns the edges that are listed; colour: what the map is coloured by.
    """

    def __init__(
        self,
        state: ExplorerState,
        guard: Guard,
        edges: Callable[[], pd.DataFrame],
        colour: Callable[[], str],
    ) -> None:
        self._state, self._colour = state, colour
        folder = state.nodes.run.folder / "exports"
        self.folder = Text(str(folder), description="folder", layout=Layout(width="620px"))
        self.view = Dropdown(options=list(views(state)), description="view")
        self.done = HTML()
        files: dict[str, Callable[[ExplorerState, Path], Path]] = {
            "selection.csv": export.export_selection,
            "selection.parquet": export.export_selection,
            "edges.csv": lambda _, path: export.export_edges(edges(), path),
            "graph.graphml": export.export_graphml,
            "atlas.parquet": export.export_atlas,
        }
        self.buttons = {name: Button(description=name) for name in files}
        for name, write in files.items():
            self.buttons[name].on_click(guard(self._writer(name, write)))
        for suffix in export.FIGURE_FORMATS:
            button = Button(description=f"view as {suffix[1:].upper()}")
            button.on_click(guard(self._drawer(suffix)))
            self.buttons[suffix] = button
        chosen = [button for name, button in self.buttons.items() if name in files]
        drawn = [button for name, button in self.buttons.items() if name not in files]
        note = HTML(
            "The selection is what is lassoed, or what is listed; edges are those listed under "
            "Matrix. Open <code>atlas.parquet</code> "
            "with <code>embedding-atlas --x projection_x --y projection_y --neighbors neighbors "
            "--image image</code>."
        )
        self.widget = VBox([self.folder, HBox(chosen), HBox([self.view, *drawn]), note, self.done])

    def _writer(
        self, name: str, write: Callable[[ExplorerState, Path], Path]
    ) -> Callable[[Button], None]:
        def written(_: Button) -> None:
            self.done.value = f"wrote {write(self._state, Path(self.folder.value) / name)}"

        return written

    def _drawer(self, suffix: str) -> Callable[[Button], None]:
        def drawn(_: Button) -> None:
            figure = views(self._state, self._colour())[self.view.value]()
            name = f"{self.view.value.replace(' ', '-')}-{self._state.selected}{suffix}"
            path = Path(self.folder.value) / name.replace(" ", "-")
            self.done.value = f"wrote {export.export_figure(figure, path)}"

        return drawn
