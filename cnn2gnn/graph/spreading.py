"""Labels spread along a graph to the nodes that have none.

Zhou, Bousquet, Lal, Weston, Schoelkopf: Learning with Local and Global Consistency (NIPS 2003);
Iscen, Tolias, Avrithis, Chum (CVPR 2019) solve it for deep features as is done here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from cnn2gnn.graph.sparse import SparseGraph

if TYPE_CHECKING:
    from scipy.sparse import csr_array

FAR = 0.99  # α, as both papers have it: a label still has half its weight after 69 steps
TOLERANCE = 1e-13  # of the residual, relative: F of far nodes is small, and its shares count too


@torch.no_grad()
def spread(graph: SparseGraph, answers: Tensor, known: Tensor) -> Tensor:
    """Return what each of N nodes is, from what the `known` ones are.

    W = (S + Sᵀ)/2,  A = D^{-½} W D^{-½},  D = diag(W 1)
    F = (I − αA)^{-1} Y = Σ_t (αA)^t Y             Y_i = y_i of a known node, 0 of another
    F_ic ← F_ic p_c / Σ_l F_lc                     class mass normalisation

    W is symmetric, so that who looks at a node counts as whom it looks at: few nodes look at a
    labelled one. The last line (Zhu, Ghahramani, Lafferty, ICML 2003) gives each class as large a
    share of all that is spread, p, as it has of the known nodes, and of one more of each class, for
    few labels tell little of shares. It depends on chance which of them lies in the middle of many.
    They sum over unknown nodes alone, of which a few would get all classes, whatever they are.

    Args:
        graph: within the N nodes.
        answers: y of the known nodes, `(N, C)`, rows sum to 1; other rows are not looked at.
        known: bool `(N,)`, at least one.

    Returns:
        `(N, C)`, rows sum to 1; those of known nodes as they were. A node that no label reaches
        has p.

    Raises:
        ValueError: shapes do not fit, no node is known, or the graph is not within a set.
    """
    if answers.ndim != 2 or len(answers) != len(graph) or known.shape != (len(graph),):
        raise ValueError(
            f"answers and known must be of shape ({len(graph)}, C) and ({len(graph)},), "
            f"not {tuple(answers.shape)} and {tuple(known.shape)}"
        )
    if not known.any():
        raise ValueError("known: no node is, so there is nothing to spread")
    # p_c = (n_c + 1) / (n + C), n_c = Σ_{i known} y_ic: Laplace's rule of succession
    shares = (answers[known].sum(0) + 1) / (known.sum() + answers.shape[1])  # (C,)
    sources = answers.where(known[:, None], 0)  # Y, (N, C)
    found = _consistent(graph.symmetrise(), sources.cpu()).to(answers)  # F, (N, C)
    mass = found.sum(0)  # Σ_l F_lc
    found = found * (shares / mass.where(mass > 0, 1))
    total = found.sum(1, keepdim=True)  # (N, 1)
    found = torch.where(total > 0, found / total.where(total > 0, 1), shares)
    return answers.where(known[:, None], found)


def _consistent(weights: csr_array, sources: Tensor) -> Tensor:
    """F of W `(N, N)`, whose diagonal is 0, and Y `(N, C)`: `(N, C)`, ≥ 0."""
    from scipy.sparse import eye_array
    from scipy.sparse.csgraph import laplacian
    from scipy.sparse.linalg import cg

    # I − αA = (1 − α) I + α L,  L = I − A the normalised Laplacian: positive definite
    smooth = laplacian(weights.astype("float64"), normed=True)  # L, (N, N)
    matrix = (1 - FAR) * eye_array(len(sources)) + FAR * smooth
    columns = [cg(matrix, y, rtol=TOLERANCE)[0] for y in sources.double().numpy().T]
    return torch.stack([torch.from_numpy(column) for column in columns], 1).clamp(min=0)
