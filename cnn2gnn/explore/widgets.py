"""The explorer in JupyterLab: thin widgets over `ExplorerState`, linked together."""

from __future__ import annotations

import base64
import threading
from pathlib import Path

import numpy as np
from IPython import get_ipython
from IPython.display import Image, display
from ipywidgets import (
    HTML,
    BoundedIntText,
    Button,
    Dropdown,
    HBox,
    Layout,
    Tab,
    ToggleButtons,
    VBox,
)

from cnn2gnn.evaluation.nodes import BANK, TEST, Node, RunNodes
from cnn2gnn.explore.closing import close_widgets, freeze, shown_here
from cnn2gnn.explore.colouring import COLOURINGS
from cnn2gnn.explore.errors import ErrorPanel
from cnn2gnn.explore.export_panel import ExportPanel
from cnn2gnn.explore.lists import ListPanel
from cnn2gnn.explore.map_panel import MapPanel, clicked_node
from cnn2gnn.explore.matrices import MatrixPanel, TimePanel
from cnn2gnn.explore.panels import EgoPanel, NodePanel, WhatIfPanel
from cnn2gnn.explore.pictures import figure_png
from cnn2gnn.explore.plots import plots
from cnn2gnn.explore.state import LASSO_MODES, ExplorerState
from cnn2gnn.runs import Run


class Explorer:
    """Map, node panel, what if, matrix, ego graph, list, time and export of one run.

    In a front end where somebody can act, displaying it shows the widgets; where nobody can
    (papermill, nbconvert, nbval), static figures of the same state. Everything a click does can
    be done through `state`, or through the methods here, which also refresh the widgets.

    Args:
        run: a finished run, its folder, its name in `runs`, or its nodes.
        compare: another run, likewise, whose evolution is shown beside; None: the run's own student
            without a teacher, if it was trained.
        interactive: None asks the front end.

    Attributes:
        errors: what went wrong in callbacks; shown at the top, and raised.

    Raises:
        FileNotFoundError: there is no finished run. ValueError: it has no graph.
    """

    def __init__(
        self,
        run: Run | RunNodes | str | Path,
        compare: Run | str | Path | None = None,
        *,
        interactive: bool | None = None,
    ) -> None:
        self.state = ExplorerState(run, compare)
        self.interactive = interactive
        self._panel = ErrorPanel()
        self._background: threading.Thread | None = None
        self._clicked: Node | None = None  # on the map, and alone in the selection since
        guard = self._panel.guard
        self.map = MapPanel(self.state, guard(self._rows))
        self.node = NodePanel(self.state, guard, self.walk, self.switch)
        self.what_if = WhatIfPanel(self.state, guard, self.refresh)
        self.matrix = MatrixPanel(self.state, guard, self.select)
        self.ego = EgoPanel(self.state, guard)
        self.list = ListPanel(self.state, guard, self.select, self.map.only)
        self.time = TimePanel(self.state, guard)
        self._colour = Dropdown(options=COLOURINGS, description="colour")
        self._colour.observe(guard(lambda change: self.map.colour(change["new"])), "value")
        self.export = ExportPanel(
            self.state, guard, lambda: self.matrix.listed, lambda: self._colour.value
        )
        self.widget = self._laid_out()
        self.refresh()
        freeze()

    def close(self) -> None:
        """Let go of all widgets and of the run: nothing can be asked of this explorer any more.

        Running a cell again closes the explorer that it has shown before.
        """
        close_widgets(self.widget)
        self.__dict__.clear()

    @property
    def errors(self) -> list[Exception]:
        """All errors of callbacks so far."""
        return self._panel.caught

    # --- what a click does ---------------------------------------------------------------------

    def select(self, node: Node | int) -> None:
        """Look at a node, or at the test node of this index."""
        self.state.select(node)
        self.refresh()

    def walk(self, position: int) -> None:
        """Go to a neighbour, 0 for the heaviest."""
        self.state.walk(position)
        self.refresh()

    def back(self) -> None:
        """Return to the node looked at before."""
        self.state.back()
        self.refresh()

    def switch(self, neighbour: Node, on: bool) -> None:
        """Switch an edge of the selected node on or off."""
        self.state.switch(neighbour, on)
        self.refresh()

    def lasso(self, rows: np.ndarray) -> None:
        """Select nodes by their rows, in the mode of the buttons above the map."""
        self.state.lasso(rows, self._mode.value)
        self.map.show(self.state.selection)
        self._status()

    def refresh(self) -> None:
        """Show the present state everywhere."""
        if self._clicked not in (None, self.state.selected):
            # the map tells of another selection alone: this point shall be there to be clicked
            self.state.lasso(np.empty(0))
            self._clicked = None
        self.node.refresh()
        self.what_if.refresh()
        self.list.refresh()
        self.map.show(self.state.selection)
        self.map.mark()
        if self.tabs.selected_index == self._ego_tab:
            self.ego.refresh()
        self._status()

    def _rows(self, rows: np.ndarray) -> None:
        """Take a selection that comes from the map; our own comes back and is known already."""
        if np.array_equal(np.sort(rows), self.state.selection):
            return
        node = clicked_node(self.state, rows)
        self.lasso(rows)
        self._clicked = node if len(self.state.selection) == 1 else None
        if node is not None:
            self.select(node)

    # --- layout --------------------------------------------------------------------------------

    def _laid_out(self) -> VBox:
        guard = self._panel.guard
        self._mode = ToggleButtons(options=LASSO_MODES, style={"button_width": "78px"})
        options = ["pca"] if self.state.projection == "pca" else ["pca", "umap"]
        self._projection = ToggleButtons(options=options, style={"button_width": "60px"})
        self._projection.value = self.state.projection
        self._projection.observe(guard(self._project), "value")
        self._part = Dropdown(options=[TEST, BANK], layout=Layout(width="70px"))
        self._index = BoundedIntText(0, 0, 10**9, layout=Layout(width="90px"))
        go = Button(description="go to", layout=Layout(width="70px"))
        go.on_click(guard(lambda _: self.select(Node(self._part.value, self._index.value))))
        back = Button(description="back", icon="arrow-left", layout=Layout(width="80px"))
        back.on_click(guard(lambda _: self.back()))
        self._line = HTML()
        pages = {
            "What if": self.what_if.widget,
            "Matrix": self.matrix.widget,
            "Ego graph": self.ego.widget,
            "List": self.list.widget,
            "Time": self.time.widget,
            "Export": self.export.widget,
        }
        self.tabs = Tab(list(pages.values()), titles=list(pages))
        self._ego_tab = list(pages).index("Ego graph")
        self.tabs.observe(guard(lambda _: self.refresh()), "selected_index")
        self._colour.layout.width = "220px"
        above = HBox([self._colour, self._projection, HTML("lasso&nbsp;"), self._mode])
        search = HBox([self._part, self._index, go, back])
        left = VBox([above, self.map.widget, self._line], layout=Layout(width="55%"))
        right = VBox([search, self.node.widget], layout=Layout(width="45%", padding="0 0 0 12px"))
        return VBox([self._panel.widget, HBox([left, right]), self.tabs])

    def _status(self) -> None:
        state, waiting = self.state, self._background is not None and self._background.is_alive()
        count = len(state.selection)
        chosen = f"{count} node{'s' * (count != 1)} lassoed. " if count else ""
        hint = "Click a point, or take the lasso beside the map to select several. "
        self._line.value = chosen + hint + ("UMAP is being computed …" if waiting else "")

    def _project(self, change: dict) -> None:
        (self.state.use_umap if change["new"] == "umap" else self.state.use_pca)()
        self.map.move()

    # --- display -------------------------------------------------------------------------------

    def figures(self) -> dict[str, bytes]:
        """The figures of the present state as PNG files, by name."""
        return {name: figure_png(draw()) for name, draw in plots(self.state).items()}

    def _ipython_display_(self) -> None:
        interactive = somebody_can_act() if self.interactive is None else self.interactive
        if not interactive:
            for picture in self.figures().values():
                display(Image(picture))
            return
        shown_here(self)
        # viewers without widgets show the map
        fallback = base64.b64encode(figure_png(plots(self.state)["map"]())).decode()
        display({**self.widget._repr_mimebundle_(), "image/png": fallback}, raw=True)
        if self._background is None:
            self._background = threading.Thread(
                target=self._panel.guard(self._later, clears=False), daemon=True
            )
            self._background.start()
            self._status()

    def _later(self) -> None:
        """Make what takes time: the remaining previews, the teacher, UMAP."""
        state = self.state
        self.map.fill_previews()
        _ = state.nodes.teacher
        _ = state.umap
        if not self.__dict__:  # closed meanwhile
            return
        if "umap" not in self._projection.options:
            self._projection.options = ["pca", "umap"]
            self._projection.value = "umap"
        self._background = None
        self._status()


def somebody_can_act() -> bool:
    """Whether a person sits at the front end that runs this cell.

    A front end that executes a cell says whether it can ask for input (`allow_stdin` of the
    Jupyter messaging protocol). JupyterLab and its kin can; papermill, nbconvert and nbval cannot.
    """
    shell = get_ipython()
    if shell is None or not hasattr(shell, "get_parent"):
        return False
    return bool(shell.get_parent().get("content", {}).get("allow_stdin", False))
