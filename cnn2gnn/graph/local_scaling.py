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

NOTE: CSLS compares by cosine, at β = 1. Here ρ_j is taken among a sample of at most `SAMPLE` nodes,
which ranks nodes as well and costs M·SAMPLE distances instead of M².
"""

from __future__ import annotations

import torch
from torch import Tensor

from cnn2gnn.base.disk import collected
from cnn2gnn.graph.distances import distances_to
from cnn2gnn.graph.search import nearest
from cnn2gnn.graph.search_keys import SearchKeys

SAMPLE = 5000  # nodes among which ρ_j is taken, at most
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
    nodes = points if among is None else torch.cat([among, points])  # (N, w)
    step = -(-len(nodes) // SAMPLE)
    sample = SearchKeys.of(nodes[::step].contiguous())
    rows = torch.arange(len(nodes) - len(points), len(nodes), device=points.device)
    itself = (rows // step).where(rows % step == 0, -1)  # its place in the sample, −1: none
    k = min(k, len(sample) - 1)
    if k < 1:
        return points.new_zeros(len(points))
    parts = zip(points.split(_CHUNK), itself.split(_CHUNK), strict=True)
    # ρ_j = (1/k) Σ_{l ∈ kNN(j)} d_jl
    found = ((q, nearest(q, sample, k, exclude)) for q, exclude in parts)
    means = (distances_to(near, q, sample).mean(1) for q, near in found)
    return collected(means, len(points))


def raised(points: Tensor, heights: Tensor) -> Tensor:
    """Points of H parts `(M, H·w)`, each part by its height `(M, H)` in a further dimension.

    Returns:
        `(M, H·(w + 1))`.
    """
    parts = points.unflatten(1, (heights.shape[1], -1))  # (M, H, w)
    return torch.cat([parts, heights.to(parts.dtype)[:, :, None]], 2).flatten(1)
