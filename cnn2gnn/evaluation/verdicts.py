"""Whether a prediction is right, and whether that is the graph's doing."""

from __future__ import annotations

import numpy as np
from torch import Tensor

VERDICTS = ("correct", "rescued", "harmed", "wrong")


def verdicts(logits: Tensor, base_logits: Tensor, labels: Tensor) -> np.ndarray:
    """One of `VERDICTS` a node, `(N,)`: rescued is right with the graph and wrong without it.

    Args:
        logits, base_logits: with and without the graph, `(N, C)`; labels: `(N,)`.
    """
    right = (logits.argmax(1) == labels).numpy()
    base_right = (base_logits.argmax(1) == labels).numpy()
    names = np.array(VERDICTS, dtype=object)
    return names[2 * ~right + ~base_right]
