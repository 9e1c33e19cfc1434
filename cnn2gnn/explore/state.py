"""What the explorer knows and can be asked: everything a click does, without a browser."""

from __future__ import annotations

from collections import deque
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import networkx
import numpy as np
import pandas as pd
from torch import Tensor

from cnn2gnn.drawing.classnames import readable
from cnn2gnn.evaluation import coordinates, sensitivity
from cnn2gnn.evaluation.mixing import Edges
from cnn2gnn.evaluation.nodes import TEST, Node, RunNodes
from cnn2gnn.explore.card import NodeCard, node_card
from cnn2gnn.explore.colouring import Colouring, colouring
from cnn2gnn.explore.ego import ego_graph
from cnn2gnn.explore.query import NOTHING
from cnn2gnn.explore.ranking import edges_of_node, edges_of_test_nodes
from cnn2gnn.explore.table import Filters, node_table
from cnn2gnn.explore.timeline import Timeline
from cnn2gnn.explore.whatif import Prediction, predict
from cnn2gnn.runs import Run, load_run

STEPS_BACK = 1000  # nodes that `back` remembers
LASSO_MODES = ("replace", "add", "subtract")


class ExplorerState:
    """One run, the node that is looked at, and what is changed about its graph.

    Args:
        run: a finished run, its folder, or its nodes.
        compare: another run, whose evolution is shown beside; None: the run's own student
            without a teacher, if it was trained.

    Attributes:
        table: one line per test node, see `node_table`.
        selected: the node in question; `change`: what is changed about its graph.
        selection: rows of the lassoed nodes, ascending.
        places: coordinates of all rows on the map, `(N + M, 2)`: UMAP of their keys if the run
            has it saved, else PCA; projection: which of them.

    Raises:
        FileNotFoundError: there is no finished run. ValueError: it has no graph, or the run to
            `compare` it with has none, or other classes.
    """

    def __init__(
        self, run: Run | RunNodes | str | Path, compare: Run | str | Path | None = None
    ) -> None:
        self.nodes = run if isinstance(run, RunNodes) else RunNodes.load(run)
        self.table = node_table(self.nodes)
        self.edges = Edges(self.nodes)
        classes = len(self.nodes.classes)
        self.timeline = Timeline(self.nodes.run, classes)
        if compare is None:
            self.other = Timeline(self.nodes.run, classes, "undistilled")
        else:
            self.other = Timeline(self._comparable(compare), classes)
        self.projection = "umap"
        places = coordinates.saved_umap(self.nodes)  # (N + M, 2)
        if places is None:
            self.use_pca()
        else:
            self.places = places
        self.filters = Filters()
        self.selection = np.empty(0, dtype=np.int64)
        self.change = NOTHING
        self._past: deque[Node] = deque(maxlen=STEPS_BACK)
        self.selected = self.nodes.node(int(self.with_filters(sort="mistakes")[0]))
        self.with_filters(sort="index")

    def _comparable(self, compare: Run | str | Path) -> Run:
        """The other run, if it is of the same classes and has a graph."""
        other = compare if isinstance(compare, Run) else load_run(compare)
        mine, its = self.nodes.classes, readable(other.manifest["data"]["classes"])
        if its != mine:
            raise ValueError(
                f"compare={other.folder.name!r} has the classes {', '.join(its[:5])}, …, this run "
                f"{', '.join(mine[:5])}, …: they must be the same"
            )
        if other.config.student.graph == "none":
            raise ValueError(f"compare={other.folder.name!r} has no graph")
        return other

    # --- walking -----------------------------------------------------------------------------

    def select(self, node: Node | int) -> Node:
        """Look at a node, or at the test node of this index; what was changed is forgotten.

        Raises:
            ValueError: there is no such node.
        """
        node = Node(TEST, int(node)) if isinstance(node, int | np.integer) else node
        self.nodes.row(node)
        if node != self.selected:
            self._past.append(self.selected)
            self.selected, self.change = node, NOTHING
        return node

    def walk(self, position: int) -> Node:
        """Go to the neighbour at a position, 0 for the heaviest.

        Raises:
            ValueError: there is no such neighbour.
        """
        neighbours = self.edited().neighbours
        if not 0 <= position < len(neighbours):
            raise ValueError(f"position={position} must be from 0 to {len(neighbours) - 1}")
        return self.select(neighbours[position])

    def back(self) -> Node:
        """Return to the node looked at before; at the beginning, stay."""
        if self._past:
            self.selected, self.change = self._past.pop(), NOTHING
        return self.selected

    # --- the node and what if ----------------------------------------------------------------

    def original(self) -> Prediction:
        """The prediction of the selected node as the run made it."""
        return predict(self.nodes, self.selected)

    def edited(self) -> Prediction:
        """The prediction of the selected node under what is changed."""
        return predict(self.nodes, self.selected, self.change)

    def what_if(self, **changes: Any) -> Prediction:
        """Change fields of `WhatIf` and return the new prediction.

        Raises:
            ValueError: a value that is not allowed; nothing is changed then.
        """
        change = replace(self.change, **changes)
        prediction = predict(self.nodes, self.selected, change)
        self.change = change
        return prediction

    def switch(self, neighbour: Node, on: bool) -> Prediction:
        """Switch one neighbour on or off and return the new prediction."""
        self.nodes.row(neighbour)
        off = self.change.off - {neighbour} if on else self.change.off | {neighbour}
        return self.what_if(off=off)

    def reset(self) -> None:
        """Forget what was changed."""
        self.change = NOTHING

    def card(self) -> NodeCard:
        """Describe the selected node under what is changed."""
        return node_card(self.nodes, self.edited())

    def edge_ranking(self) -> pd.DataFrame:
        """Edges of the selected node by what removing each does; see `ranking.edges_of_node`."""
        return edges_of_node(self.nodes, self.selected, self.change)

    def rank_edges_of(self, indices: np.ndarray) -> pd.DataFrame:
        """The same over all edges of several test nodes; see `ranking.edges_of_test_nodes`."""
        return edges_of_test_nodes(self.nodes, indices)

    # --- the map -----------------------------------------------------------------------------

    def colours(self, by: str) -> Colouring:
        """Return the colours of all rows; see `colouring`."""
        return colouring(self.nodes, self.table, by)

    @cached_property
    def umap(self) -> Tensor:
        """UMAP of all rows `(N + M, 2)`, computed now unless the run has it already."""
        return coordinates.obtain_umap(self.nodes)

    def use_umap(self) -> None:
        """Lay out the map by UMAP."""
        self.places, self.projection = self.umap, "umap"

    def use_pca(self) -> None:
        """Lay out the map by PCA."""
        self.places = coordinates.pca(self.nodes.together(self.nodes.keys))
        self.projection = "pca"

    def lasso(self, rows: np.ndarray, mode: str = "replace") -> np.ndarray:
        """Select nodes by their rows.

        Args:
            mode: replace the selection, add to it or subtract from it.

        Returns:
            The new selection.
        """
        if mode not in LASSO_MODES:
            raise ValueError(f"mode={mode!r} must be one of {', '.join(LASSO_MODES)}")
        rows = np.unique(np.asarray(rows, dtype=np.int64))
        if len(rows) and not 0 <= rows[0] <= rows[-1] < self.nodes.rows:
            raise ValueError(f"rows must lie from 0 to {self.nodes.rows - 1}")
        if mode == "add":
            rows = np.union1d(self.selection, rows)
        elif mode == "subtract":
            rows = np.setdiff1d(self.selection, rows)
        self.selection = rows
        return rows

    # --- lists -------------------------------------------------------------------------------

    def with_filters(self, **changes: Any) -> np.ndarray:
        """Change fields of `Filters` and return the indices that pass, in order.

        Raises:
            ValueError: a value that is not allowed; nothing is changed then.
        """
        filters = replace(self.filters, **changes)
        if lacking := [name for name in filters.classes if name not in self.nodes.classes]:
            raise ValueError(f"classes={lacking[0]!r} must be of {', '.join(self.nodes.classes)}")
        passed = filters(self.table)
        self.filters = filters
        return passed

    @property
    def listed(self) -> np.ndarray:
        """Indices of the test nodes that pass the filters, in order."""
        return self.filters(self.table)

    def compute_sensitivity(self) -> None:
        """Add the column batch_sensitivity to the table; it takes seconds on large runs."""
        if "batch_sensitivity" not in self.table:
            found = sensitivity.batch_sensitivity(self.nodes).numpy()
            self.table = self.table.assign(batch_sensitivity=found)

    def ego(self, hops: int = 1) -> networkx.DiGraph:
        """What the selected node sees within 1 or 2 hops; see `ego_graph`."""
        return ego_graph(self.nodes, self.edited(), hops)
