"""Where the nodes lie on the map: PCA at once, UMAP when there is time; saved with the run."""

from __future__ import annotations

import hashlib
from pathlib import Path

import torch
from torch import Tensor

from cnn2gnn.evaluation.nodes import RunNodes
from cnn2gnn.files import load_tensors, save_tensors

FILE = Path("explore", "umap.safetensors")


def pca(features: Tensor) -> Tensor:
    """The two directions of largest variance, `(R, 2)`; of either sign the larger end is positive.

    Args:
        features: `(R, d)`, d ≥ 2.
    """
    centred = (features - features.mean(0)).double()  # (R, d)
    _, directions = torch.linalg.eigh(centred.T @ centred)  # ascending
    directions = directions[:, [-1, -2]]  # (d, 2)
    largest = directions.abs().argmax(0)  # (2,)
    return (centred @ (directions * directions[largest, [0, 1]].sign())).float()


def umap(features: Tensor, seed: int = 0) -> Tensor:
    """UMAP (McInnes, Healy, Melville 2018), `(R, 2)`; reproducible, hence on one core.

    Args:
        features: `(R, d)`, at least four rows.
    """
    from umap import UMAP  # compiles for seconds: only whoever asks for it shall wait

    neighbours = min(15, len(features) - 1)
    # From PCA: the spectral start fails where the graph of neighbours falls into pieces.
    model = UMAP(n_neighbors=neighbours, init="pca", random_state=seed, n_jobs=1)
    return torch.from_numpy(model.fit_transform(features.numpy()))


def saved_umap(nodes: RunNodes) -> Tensor | None:
    """The UMAP saved with the run, `(N + M, 2)`; None if there is none of these features."""
    path = nodes.run.folder / FILE
    if not path.exists():
        return None
    tensors, metadata = load_tensors(path)
    return tensors["umap"] if metadata == _key(nodes) else None


def save_umap(nodes: RunNodes, coordinates: Tensor) -> None:
    """Keep coordinates `(N + M, 2)` in the run folder."""
    save_tensors(nodes.run.folder / FILE, {"umap": coordinates}, _key(nodes))


def obtain_umap(nodes: RunNodes) -> Tensor:
    """The UMAP of all features `(N + M, 2)`, computed once per run."""
    coordinates = saved_umap(nodes)
    if coordinates is None:
        coordinates = umap(nodes.together(nodes.features))
        save_umap(nodes, coordinates)
    return coordinates


def _key(nodes: RunNodes) -> str:
    """Other features are another map."""
    return hashlib.sha256(nodes.together(nodes.features).numpy().tobytes()).hexdigest()[:16]
