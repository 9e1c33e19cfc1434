"""A `SparseGraph` in the forms of scipy, networkx and PyTorch Geometric.

An edge i → j of weight s_ij > 0 reads "i looks at j". networkx and PyG number all nodes in one
row: within a set node i is i; against other sources, source j is j and query i is M + i.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor

from cnn2gnn.base.values import whole_number

if TYPE_CHECKING:
    import networkx
    from scipy.sparse import csr_array

    from cnn2gnn.graph.sparse import SparseGraph

NodeT = TypeVar("NodeT", bound=Hashable)


def to_scipy(graph: SparseGraph) -> csr_array:
    """The adjacency S `(N, M)` as scipy CSR, edges only."""
    from scipy.sparse import csr_array

    n, k = graph.neighbours.shape
    dtype = torch.promote_types(graph.weights.dtype, torch.float32)  # scipy knows no half ones
    weights = graph.weights.detach().cpu().to(dtype).flatten().numpy()  # (N·k,)
    columns = graph.neighbours.cpu().flatten().numpy()  # (N·k,)
    row_starts = torch.arange(0, n * k + 1, k).numpy()  # (N+1,)
    adjacency = csr_array((weights, columns, row_starts), shape=(n, graph.num_sources), copy=True)
    adjacency.sum_duplicates()
    adjacency.eliminate_zeros()
    return adjacency


def symmetrised(graph: SparseGraph) -> csr_array:
    """(S + Sᵀ) / 2 as scipy CSR `(N, N)`.

    Raises:
        ValueError: the graph is not within a set.
    """
    _require_in_set(graph, "symmetrise")
    adjacency = to_scipy(graph)
    return ((adjacency + adjacency.T) / 2).tocsr()


def to_networkx(
    graph: SparseGraph, labels: Sequence[int] | Tensor | None = None
) -> networkx.DiGraph:
    """Directed networkx graph; edges carry `weight`.

    Nodes carry `image`, the index of their image in its own set (nodes or sources), and `label`.

    Args:
        graph: N nodes, and M sources where they are others.
        labels: one a node, `(N,)`; against other sources those of the sources, then of the
            queries, `(M + N,)`.

    Raises:
        ValueError: another number of labels than of nodes.
    """
    import networkx

    images = list(range(graph.num_sources))
    if graph.sources is not None:
        images += range(len(graph))
    result = networkx.DiGraph()
    result.add_nodes_from((node, {"image": image}) for node, image in enumerate(images))
    found = to_scipy(graph).tocoo()  # one edge to each neighbour
    rows = found.row + (len(images) - len(graph))  # queries stand behind sources
    edges = zip(rows.tolist(), found.col.tolist(), found.data.tolist(), strict=True)
    result.add_weighted_edges_from(edges)
    if labels is not None:
        _require_length("labels", labels, len(images))
        values = torch.as_tensor(labels).tolist()
        networkx.set_node_attributes(result, dict(enumerate(values)), "label")
    return result


def ego(graph: SparseGraph, node: int, hops: int = 1) -> networkx.DiGraph:
    """The subgraph of all nodes that `node` reaches in at most `hops` edges; see `looked_at`.

    Args:
        graph: within a set.
        node: the centre, from 0 to N − 1.
        hops: at least 0.

    Raises:
        ValueError: the graph is not within a set, or `node` or `hops` are no whole numbers, or out
            of range.
    """
    _require_in_set(graph, "ego")
    node = whole_number("node", node, 0, len(graph) - 1)
    hops = whole_number("hops", hops, 0)
    adjacency = to_scipy(graph)

    def look(nodes: Sequence[int]) -> list[tuple[int, int, float]]:
        rows = adjacency[list(nodes)].tocoo()
        return [
            (nodes[row], column, weight)
            for row, column, weight in zip(
                rows.row.tolist(), rows.col.tolist(), rows.data.tolist(), strict=True
            )
        ]

    seen = looked_at(look, node, hops)
    inside = (edge for edge in look(list(seen)) if edge[1] in seen)
    seen.add_weighted_edges_from(inside)
    return seen


def looked_at(
    look: Callable[[Sequence[NodeT]], Iterable[tuple[NodeT, NodeT, float]]],
    centre: NodeT,
    hops: int,
) -> networkx.DiGraph:
    """What is seen from `centre` in at most `hops` looks; nodes carry `hop`, edges `weight`.

    Args:
        look: from nodes to their edges: node, neighbour, weight.
    """
    import networkx

    graph = networkx.DiGraph()
    graph.add_node(centre, hop=0)
    frontier = [centre]
    for hop in range(1, hops + 1):
        before = set(graph)
        graph.add_weighted_edges_from(list(look(frontier)) if frontier else [])
        frontier = [node for node in graph if node not in before]
        networkx.set_node_attributes(graph, dict.fromkeys(frontier, hop), "hop")
    return graph


def to_pyg(graph: SparseGraph, features: Tensor | None = None, labels: Tensor | None = None) -> Any:
    """`torch_geometric.data.Data(x, y, edge_index (2, E), edge_weight (E,))`.

    PyG's messages flow along edges, so that an edge leads from the neighbour to the node that looks
    at it: summing messages times `edge_weight` is `SparseGraph.aggregate`, with gradient.

    Args:
        graph: N nodes, and M sources where they are others.
        features: one row a node, `(N, d)` or `(M + N, d)` with the sources first.
        labels: one a node, `(N,)` or `(M + N,)`.

    Raises:
        ImportError: torch_geometric is not installed.
        ValueError: another number of features or labels than of nodes.
    """
    try:
        from torch_geometric.data import Data
    except ImportError as error:
        raise ImportError(
            "SparseGraph.pyg() needs torch_geometric: pip install torch_geometric"
        ) from error
    nodes = len(graph) if graph.sources is None else graph.sources + len(graph)
    for name, values in (("features", features), ("labels", labels)):
        if values is not None:
            _require_length(name, values, nodes)
    row, slot = torch.nonzero(graph.weights > 0, as_tuple=True)  # (E,)
    ends = row + (nodes - len(graph))  # queries stand behind sources
    edge_index = torch.stack([graph.neighbours[row, slot], ends])  # (2, E)
    weights = graph.weights[row, slot]  # (E,)
    return Data(features, edge_index, y=labels, edge_weight=weights, num_nodes=nodes)


def _require_in_set(graph: SparseGraph, what: str) -> None:
    if graph.sources is not None:
        raise ValueError(f"{what} needs a graph within a set, not one against {graph.sources} keys")


def _require_length(name: str, values: Sequence[int] | Tensor, length: int) -> None:
    if len(values) != length:
        raise ValueError(f"{name} must have {length} rows, one a node, not {len(values)}")
