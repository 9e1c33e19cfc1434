"""A graph of k weighted neighbours a node."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional as F

from cnn2gnn.graph import conversions

if TYPE_CHECKING:  # each costs as much as half of torch, and is asked for rarely
    from networkx import DiGraph
    from scipy.sparse import csr_array


@dataclass(eq=False)  # not frozen: Fabric rebuilds what a forward pass returns
class SparseGraph:
    """Rows of a sparse adjacency S: s_ij is the weight that node i gives to j.

    Within a set (`sources` None) neighbours index the N nodes themselves. Against other sources,
    such as a bank, the N nodes are queries and neighbours index M = `sources` other nodes.
    An edge is a positive weight.

    Args:
        neighbours: int64 `(N, k)`.
        weights: `(N, k)`, >= 0; rows sum to 1, as learners have them, or to less, where a layer
            divides by degrees.
        distances: squared Euclidean distances `(N, k)`, where the learner knows them.
        sources: number M of nodes that neighbours index; None: the N nodes themselves.

    Raises:
        ValueError: shapes or dtypes do not fit.
    """

    neighbours: Tensor
    weights: Tensor
    distances: Tensor | None = None
    sources: int | None = None

    def __post_init__(self) -> None:
        shape = tuple(self.neighbours.shape)
        if len(shape) != 2 or self.neighbours.dtype != torch.int64:
            raise ValueError(
                f"neighbours must be int64 of shape (N, k), not {self.neighbours.dtype} of {shape}"
            )
        for name in ("weights", "distances"):
            values = getattr(self, name)
            if values is not None and tuple(values.shape) != shape:
                raise ValueError(f"{name} must be of shape {shape}, not {tuple(values.shape)}")

    def __len__(self) -> int:
        return len(self.neighbours)

    @property
    def num_sources(self) -> int:
        """Number M of nodes that can be neighbours."""
        return len(self) if self.sources is None else self.sources

    def aggregate(self, values: Tensor) -> Tensor:
        """Weighted mean over the neighbours, Σ_j s_ij v_j; differentiable in weights and values.

        Args:
            values: `(M, d)`, one row a source.

        Returns:
            `(N, d)`, in the wider dtype of weights and values.

        Raises:
            ValueError: `values` has another number of rows than there are sources.
        """
        if values.ndim != 2 or len(values) != self.num_sources:
            raise ValueError(
                f"values must be of shape ({self.num_sources}, d), not {tuple(values.shape)}"
            )
        # embedding_bag sums on the fly: (N, k, d) never exists, and it takes a third of the time.
        dtype = torch.promote_types(self.weights.dtype, values.dtype)
        weights, values = self.weights.to(dtype), values.to(dtype)
        if torch.compiler.is_exporting():  # ONNX has bags as a loop over rows alone
            return (weights[:, :, None] * F.embedding(self.neighbours, values)).sum(1)
        return F.embedding_bag(self.neighbours, values, per_sample_weights=weights, mode="sum")

    def by_distance(self) -> SparseGraph:
        """The same graph, the edges of each node in ascending order of distance."""
        if self.distances is None:
            raise ValueError("this graph knows no distances")
        distances, order = self.distances.sort(dim=1, stable=True)
        neighbours, weights = self.neighbours.gather(1, order), self.weights.gather(1, order)
        return SparseGraph(neighbours, weights, distances, self.sources)

    @classmethod
    def stacked(cls, parts: Sequence[SparseGraph]) -> SparseGraph:
        """Put the rows of several graphs against the same sources below each other."""

        def column(name: str) -> Tensor:
            return torch.cat([getattr(part, name) for part in parts])

        distances = None if parts[0].distances is None else column("distances")
        return cls(column("neighbours"), column("weights"), distances, parts[0].sources)

    def detach(self) -> SparseGraph:
        """The same graph without gradient."""
        return self._map(Tensor.detach)

    def to(self, device: torch.device | str) -> SparseGraph:
        """The same graph on a device."""
        return self._map(lambda tensor: tensor.to(device))

    def _map(self, change: Callable[[Tensor], Tensor]) -> SparseGraph:
        distances = None if self.distances is None else change(self.distances)
        return SparseGraph(change(self.neighbours), change(self.weights), distances, self.sources)

    def prune(self, min_weight: float) -> SparseGraph:
        """Without the edges lighter than `min_weight`: the others share their weight.

        A node that would lose all its edges keeps the heaviest.

        Args:
            min_weight: from 0 to 1.
        """
        if not 0 <= min_weight <= 1:
            raise ValueError(f"min_weight={min_weight} must be from 0 to 1")
        heaviest = self.weights.amax(1, keepdim=True)  # (N, 1)
        kept = self.weights >= heaviest.clamp(max=min_weight)  # (N, k)
        return replace(self, weights=shared_out(self.weights, kept))

    def dense(self) -> Tensor:
        """The adjacency S `(N, M)`; differentiable in the weights."""
        empty = self.weights.new_zeros(len(self), self.num_sources)
        return empty.scatter_add(1, self.neighbours, self.weights)

    def scipy(self) -> csr_array:
        """The adjacency S `(N, M)` as scipy CSR, edges only."""
        return conversions.to_scipy(self)

    def symmetrise(self) -> csr_array:
        """(S + Sᵀ) / 2 as scipy CSR `(N, N)`; within a set only."""
        return conversions.symmetrised(self)

    def networkx(self, labels: Sequence[int] | Tensor | None = None) -> DiGraph:
        """As a networkx graph; see `conversions.to_networkx`."""
        return conversions.to_networkx(self, labels)

    def ego(self, node: int, hops: int = 1) -> DiGraph:
        """What `node` sees within `hops`, as a networkx graph; see `conversions.ego`."""
        return conversions.ego(self, node, hops)

    def pyg(self, features: Tensor | None = None, labels: Tensor | None = None) -> Any:
        """As `torch_geometric.data.Data`; see `conversions.to_pyg`."""
        return conversions.to_pyg(self, features, labels)


def shared_out(weights: Tensor, kept: Tensor) -> Tensor:
    """Weights `(N, k)` of the edges `kept` `(N, k)`, which take over those of the others.

    Each row sums to what it did; rows that keep nothing are 0.
    """
    left = weights * kept  # (N, k)
    before, after = weights.sum(1, keepdim=True), left.sum(1, keepdim=True)  # (N, 1)
    # the quotient first: it is exactly 1 where nothing is taken away
    return left * (before / after.where(after > 0, 1))
