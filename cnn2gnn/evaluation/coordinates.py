"""Where the nodes lie on the map, a picture of their keys: PCA at once, UMAP when there is time."""

from __future__ import annotations

import hashlib
import logging
import os
import tempfile
import threading
import warnings
from functools import cache
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from cnn2gnn.base.files import BrokenFileError, load_tensors, save_tensors
from cnn2gnn.evaluation.nodes import RunNodes
from cnn2gnn.graph.distances import chosen_distances

FILE = Path("explore", "umap.safetensors")
log = logging.getLogger(__name__)
# numba's only layer on a bare macOS, workqueue, ends the process when two threads enter it
_ONE_AT_A_TIME = threading.Lock()


def described(nodes: RunNodes) -> str:
    """What the map is of: keys, and where the learner looks there, what that means."""
    learner = nodes.student.network.learner
    if learner is None or learner.space != "features" or learner.reach is None:
        return "the keys"
    return "the keys (the space in which neighbours are found)"


def pca(keys: Tensor) -> Tensor:
    """The two directions of largest variance, `(R, 2)`; of either sign the larger end is positive.

    Args:
        keys: `(R, d)`; of one dimension, the second direction is 0.
    """
    centred = (keys - keys.mean(0)).double()  # (R, d)
    centred = F.pad(centred, (0, max(0, 2 - keys.shape[1])))
    _, directions = torch.linalg.eigh(centred.T @ centred)  # ascending
    directions = directions[:, [-1, -2]]  # (d, 2)
    largest = directions.abs().argmax(0)  # (2,)
    return (centred @ (directions * directions[largest, [0, 1]].sign())).float()


def umap(keys: Tensor, seed: int = 0) -> Tensor:
    """UMAP (McInnes, Healy, Melville 2018), `(R, 2)`; reproducible, hence on one core.

    Args:
        keys: `(R, d)`, at least four rows.
    """
    with _ONE_AT_A_TIME:
        _have_a_cache()
        from umap import UMAP  # compiles for seconds: only whoever asks for it shall wait

        count = min(15, len(keys) - 1)
        # Ours, for its own search would be compiled first. Each row is the nearest of its own.
        neighbours, squared = chosen_distances(keys, keys, count)  # (R, count)
        with warnings.catch_warnings():
            # without an index of its own; nothing is added to the map
            warnings.filterwarnings("ignore", "precomputed_knn", UserWarning)
            # From PCA: the spectral start fails where the graph of neighbours falls into pieces.
            model = UMAP(
                n_neighbors=count,
                init="pca",
                random_state=seed,
                n_jobs=1,
                precomputed_knn=(neighbours.numpy(), squared.sqrt().numpy(), None),
            )
            return torch.from_numpy(model.fit_transform(keys.numpy()))


def _have_a_cache() -> None:
    """Give numba a folder for what it compiles where its own cannot be written.

    It keeps that beside the installed packages or in the home, and refuses to import umap where a
    container's user has neither. The folder is private: numba unpickles what lies in it.
    """
    installed = Path(torch.__file__).parents[1]
    if "NUMBA_CACHE_DIR" in os.environ or os.access(installed, os.W_OK):
        return
    os.environ["NUMBA_CACHE_DIR"] = _folder_of_this_process().name
    import numba

    numba.config.reload_config()  # it may have been imported before


@cache
def _folder_of_this_process() -> tempfile.TemporaryDirectory:
    return tempfile.TemporaryDirectory(prefix="cnn2gnn-numba-")


def saved_umap(nodes: RunNodes) -> Tensor | None:
    """The UMAP saved with the run, `(N + M, 2)`; None if there is none of these keys."""
    path = nodes.run.folder / FILE
    if not path.exists():
        return None
    try:
        tensors, metadata = load_tensors(path)
    except BrokenFileError as error:
        log.warning("the map is drawn again: %s", error)
        return None
    found = tensors.get("umap")
    ours = found is not None and found.shape == (nodes.rows, 2) and bool(found.isfinite().all())
    return found if ours and metadata == _key(nodes) else None


def saved_files(nodes: RunNodes) -> list[str]:
    """The file of the saved UMAP within the run folder, if it could be written."""
    return [FILE.as_posix()] if (nodes.run.folder / FILE).exists() else []


def save_umap(nodes: RunNodes, coordinates: Tensor) -> None:
    """Keep coordinates `(N + M, 2)` in the run folder."""
    save_tensors(nodes.run.folder / FILE, {"umap": coordinates}, _key(nodes))


def obtain_umap(nodes: RunNodes) -> Tensor:
    """The UMAP of all keys `(N + M, 2)`, computed once per run if its folder can be written."""
    coordinates = saved_umap(nodes)
    if coordinates is None:
        coordinates = umap(nodes.together(nodes.keys))
        try:
            save_umap(nodes, coordinates)
        except OSError as error:  # a share that is only read: it costs time, not the map
            log.warning("the UMAP of %s is not kept: %s", nodes.run.folder, error)
    return coordinates


def _key(nodes: RunNodes) -> str:
    """Other keys are another map."""
    return hashlib.sha256(nodes.together(nodes.keys).numpy().tobytes()).hexdigest()[:16]
