"""Local scaling: a node that lies close to everything is nobody's neighbour for that reason alone.

Among points of many dimensions some are near to very many others (hubs: Radovanović, Nanopoulos,
Ivanović, JMLR 2010), and tell each of them little. So what a node's distance to its own neighbours
is, d_ij is measured by:

    d̃_ij = d_ij − β ρ_j,    ρ_j = (1/k) Σ_{l ∈ kNN(j)} d_jl

That is CSLS (Conneau et al., ICLR 2018), whose ρ_i would change no weight here: weights are
invariant under d → d + b. For the same reason d̃ may be raised by C = max_j β ρ_j, and becomes a
squared Euclidean distance again, in one dimension more:

    d̃_ij + C = ‖[u_i, 0] − [u_j, √(C − β ρ_j)]‖²

So every search finds such neighbours, exact or not, in one part or in several.

NOTE: CSLS compares by cosine, at β = 1, and knows all neighbours. Here they are those in a random
sample of at most `SAMPLE` nodes: what a node is near to can be told from it as well, and it costs
M·SAMPLE distances instead of M².
"""

from __future__ import annotations

import torch
from torch import Tensor

from cnn2gnn.base.disk import collected
from cnn2gnn.graph.distances import distances_to
from cnn2gnn.graph.search import nearest
from cnn2gnn.graph.search_keys import SearchKeys

SAMPLE = 5000  # nodes among which ρ_j is taken, at most
FARTHEST = 4  # times the median of ρ: what lies farther off is an outlier, whose C would drown d̃
_CHUNK = 1000  # nodes whose distances exist at a time


@torch.no_grad()
def radii(points: Tensor, among: Tensor | None, k: int, heads: int = 1) -> Tensor:
    """Return ρ_j, the mean squared distance of points `(M, H·w)` to their neighbours, `(M, H)`.

    Args:
        among: `(N, H·w)`, nodes that the points join as further ones; None: they are on their own.
        k: neighbours of a point, or as many as there are; where there is none, ρ_j = 0.
        heads: H, equal parts of a point, each with neighbours of its own.
    """
    those = [None] * heads if among is None else among.chunk(heads, 1)
    parts = zip(points.chunk(heads, 1), those, strict=True)
    return torch.stack([_radii_of_part(part, nodes, k) for part, nodes in parts], 1)


def _radii_of_part(points: Tensor, among: Tensor | None, k: int) -> Tensor:
    others = 0 if among is None else len(among)
    count = others + len(points)
    drawn = torch.randperm(count, generator=torch.Generator().manual_seed(0))[:SAMPLE]
    drawn = drawn.sort().values.to(points.device)  # (n,)
    sample = points[drawn[drawn >= others] - others]
    if among is not None:
        sample = torch.cat([among[drawn[drawn < others]], sample])  # (n, w)
    k = min(k, len(sample) - 1)
    if k < 1:
        return points.new_zeros(len(points))
    rows = torch.arange(others, count, device=points.device)
    itself = torch.searchsorted(drawn, rows).clamp(max=len(drawn) - 1)
    itself = itself.where(drawn[itself] == rows, -1)  # its place in the sample, −1: none
    nodes = SearchKeys.of(sample)
    parts = zip(points.split(_CHUNK), itself.split(_CHUNK), strict=True)
    # ρ_j = (1/k) Σ_{l ∈ kNN(j)} d_jl
    found = ((q, nearest(q, nodes, k, exclude)) for q, exclude in parts)
    means = (distances_to(near, q, nodes).mean(1) for q, near in found)
    return collected(means, len(points))


def bounded(radii: Tensor) -> Tensor:
    """Radii `(M, H)`, squared distances, M >= 1, none above `FARTHEST` times the head's median."""
    median = radii.sort(0).values[len(radii) // 2]  # (H,)
    return radii.minimum(FARTHEST * median)


def raised(points: Tensor, heights: Tensor) -> Tensor:
    """Points of H parts `(M, H·w)`, each part by its height `(M, H)` in a further dimension.

    Returns:
        `(M, H·(w + 1))`.
    """
    parts = points.unflatten(1, (heights.shape[1], -1))  # (M, H, w)
    return torch.cat([parts, heights.to(parts.dtype)[:, :, None]], 2).flatten(1)
