"""Take along what was found: tables, graphs and figures as files."""

from __future__ import annotations

import io
import os
from collections.abc import Iterable
from pathlib import Path

import networkx
import numpy as np
import pandas as pd
import pyarrow
import torch
from matplotlib.figure import Figure
from PIL import Image
from pyarrow import parquet
from torch import Tensor

from cnn2gnn.base.files import replacing
from cnn2gnn.evaluation.nodes import BANK, TEST, RunNodes
from cnn2gnn.explore.state import ExplorerState
from cnn2gnn.graph import SparseGraph
from cnn2gnn.runs import Run

TABLE_FORMATS, FIGURE_FORMATS = (".csv", ".parquet"), (".png", ".svg", ".pdf")


def exports_folder(run: Run) -> Path:
    """Where exports go: into the run's folder, or into the working one where that is only read."""
    return (run.folder if os.access(run.folder, os.W_OK) else Path.cwd()) / "exports"


def export_selection(state: ExplorerState, path: str | Path) -> Path:
    """Write the selected nodes, one a line: part, index, x, y, label, and the table's columns.

    Bank nodes have a label and no prediction. Without a selection, the listed nodes are written.

    Args:
        path: ends in .csv or .parquet.
    """
    path = _with_suffix(path, TABLE_FORMATS)
    rows = state.selection if len(state.selection) else state.listed
    table = _all_rows(state).iloc[rows]
    with replacing(path) as temporary:
        if path.suffix == ".csv":
            table.to_csv(temporary, index=False)
        else:
            table.to_parquet(temporary, index=False)
    return path


def export_edges(edges: pd.DataFrame, path: str | Path) -> Path:
    """Write a list of edges, as `Edges.of_cell` or `rank_edges_of` return it.

    Args:
        path: ends in .csv or .parquet.
    """
    path = _with_suffix(path, TABLE_FORMATS)
    with replacing(path) as temporary:
        write = edges.to_csv if path.suffix == ".csv" else edges.to_parquet
        write(temporary, index=False)
    return path


def export_graphml(state: ExplorerState, path: str | Path) -> Path:
    """Write the graph as GraphML: that of the selected test nodes, or without any the whole one.

    Nodes are called "test 3" and "bank 17" and carry label, x, y and, if known, predicted.
    """
    path = _with_suffix(path, (".graphml",))
    nodes, table = state.nodes, _all_rows(state)
    chosen = state.selection[state.selection < len(nodes)]
    if not len(chosen):
        chosen = np.arange(len(nodes))
    graph = SparseGraph(
        nodes.graph.neighbours[chosen], nodes.graph.weights[chosen], sources=len(nodes.bank)
    ).networkx()
    rows = [*range(len(nodes), nodes.rows), *chosen.tolist()]  # as the graph numbers its nodes
    lines = table[["label", "x", "y", "predicted"]].iloc[rows].to_dict("records")
    known = [{name: value for name, value in line.items() if pd.notna(value)} for line in lines]
    networkx.set_node_attributes(graph, dict(enumerate(known)))
    graph.remove_nodes_from(list(networkx.isolates(graph)))  # bank nodes that nobody looks at
    graph = networkx.relabel_nodes(graph, {node: str(nodes.node(rows[node])) for node in graph})
    with replacing(path) as temporary:
        networkx.write_graphml(graph, temporary)
    return path


def export_atlas(state: ExplorerState, path: str | Path) -> Path:
    """Write all nodes to a parquet that Embedding Atlas opens, with the learned neighbours.

    Open it with `embedding-atlas FILE --x projection_x --y projection_y --neighbors neighbors
    --image image`. Its `neighbors` are {ids, distances}, ids are zero-based rows of the file (see
    its command line documentation); distances are squared Euclidean. Rows are the N test nodes,
    then the M bank nodes. Bank nodes look for their neighbours now: seconds on large runs.
    """
    path = _with_suffix(path, (".parquet",))
    nodes, table = state.nodes, _all_rows(state)
    table = table.rename(columns={"x": "projection_x", "y": "projection_y"})
    inner = nodes.bank_graph(torch.arange(len(nodes.bank)))
    neighbours = torch.cat([nodes.graph.neighbours, inner.neighbours]) + len(nodes)
    weights = torch.cat([nodes.graph.weights, inner.weights])
    # a learner without distances: the heaviest is the nearest
    distances = torch.cat(
        [1 - g.weights if g.distances is None else g.distances for g in (nodes.graph, inner)]
    )
    edges = weights > 0
    lists = {"ids": _lists(neighbours, edges), "distances": _lists(distances, edges)}
    whole = pyarrow.Table.from_pandas(table, preserve_index=False)
    whole = whole.append_column(
        "neighbors", pyarrow.StructArray.from_arrays(list(lists.values()), list(lists))
    )
    whole = whole.append_column("neighbor_weights", _lists(weights, edges))
    whole = whole.append_column("image", _images(nodes))
    with replacing(path) as temporary:
        parquet.write_table(whole, temporary)
    return path


def export_figure(figure: Figure, path: str | Path, dpi: int = 200) -> Path:
    """Write a figure as .png, .svg or .pdf."""
    path = _with_suffix(path, FIGURE_FORMATS)
    with replacing(path) as temporary:
        figure.savefig(temporary, format=path.suffix[1:], dpi=dpi)
    return path


def png(image: Tensor) -> bytes:
    """A uint8 image `(C, H, W)` as a PNG file."""
    pixels = image[0] if len(image) == 1 else image[:3].permute(1, 2, 0)  # (H, W) or (H, W, 3)
    buffer = io.BytesIO()
    Image.fromarray(pixels.contiguous().numpy()).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def _all_rows(state: ExplorerState) -> pd.DataFrame:
    """Return one line per row, test nodes first; bank nodes have no prediction."""
    nodes = state.nodes
    labels = nodes.together(nodes.labels)  # (N + M,)
    places = state.places.numpy()
    first = pd.DataFrame(
        {
            "part": np.repeat([TEST, BANK], [len(nodes), len(nodes.bank)]),
            "index": np.concatenate([np.arange(len(nodes)), np.arange(len(nodes.bank))]),
            "x": places[:, 0],
            "y": places[:, 1],
            "label": [nodes.classes[label] for label in labels],
        }
    )
    rest = state.table.drop(columns="label").reset_index(drop=True)
    return first.join(rest)


def _lists(values: Tensor, edges: Tensor) -> pyarrow.Array:
    """Of a tensor `(R, k)` what is an edge, as an Arrow list array of R lists."""
    ends = np.r_[0, edges.sum(1).cumsum(0).numpy()].astype(np.int32)
    return pyarrow.ListArray.from_arrays(ends, pyarrow.array(values[edges].numpy()))


def _images(nodes: RunNodes) -> pyarrow.Array:
    """All images as PNG files in the layout {bytes, path} of Hugging Face data sets."""
    splits = nodes.splits
    parts = (splits.test, splits.train)
    files = [png(part.picture(index)) for part in parts for index in range(len(part))]
    kind = pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())])
    return pyarrow.array([{"bytes": file, "path": None} for file in files], kind)


def _with_suffix(path: str | Path, allowed: Iterable[str]) -> Path:
    path = Path(path)
    if path.suffix not in allowed:
        raise ValueError(f"path={str(path)!r} must end in {', '.join(allowed)}")
    return path
