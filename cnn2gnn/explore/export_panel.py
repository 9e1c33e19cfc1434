"""The panel that writes files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pandas as pd
from ipywidgets import (
    HTML,
    Button,
    Dropdown,
    HBox,
    Layout,
    Text,
    VBox,
)

from cnn2gnn.evaluation.nodes import Node
from cnn2gnn.explore import export
from cnn2gnn.explore.markup import line_html
from cnn2gnn.explore.panels import Guard
from cnn2gnn.explore.plots import plots
from cnn2gnn.explore.state import ExplorerState

Go = Callable[[Node], None]


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
        folder = str(export.exports_folder(state.nodes.run))
        self.folder = Text(folder, description="folder", layout=Layout(width="620px"))
        self.plot = Dropdown(options=list(plots(state)), description="plot")
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
            button = Button(description=f"plot as {suffix[1:].upper()}")
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
        self.widget = VBox([self.folder, HBox(chosen), HBox([self.plot, *drawn]), note, self.done])

    def _wrote(self, path: Path) -> None:
        self.done.value = line_html(("text", f"wrote {path}"))

    def _writer(
        self, name: str, write: Callable[[ExplorerState, Path], Path]
    ) -> Callable[[Button], None]:
        def written(_: Button) -> None:
            self._wrote(write(self._state, Path(self.folder.value) / name))

        return written

    def _drawer(self, suffix: str) -> Callable[[Button], None]:
        def drawn(_: Button) -> None:
            figure = plots(self._state, self._colour())[self.plot.value]()
            name = f"{self.plot.value.replace(' ', '-')}-{self._state.selected}{suffix}"
            path = Path(self.folder.value) / name.replace(" ", "-")
            self._wrote(export.export_figure(figure, path))

        return drawn
