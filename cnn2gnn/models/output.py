"""What a student answers."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from cnn2gnn.graph import SparseGraph


class StudentOutput(NamedTuple):
    """What one forward pass gives for B nodes.

    Attributes:
        logits: the prediction `(B, C)`.
        base_logits: what the student says without neighbours `(B, C)`.
        gate: trust in the neighbours, in [0, 1], `(B,)`; None without neighbours.
        features: z `(B, d)`.
        graph: the learned graph; None without neighbours.
        hidden_logits: V h_i `(B, C)`, what is left of the logits without the second layer's
            evidence; None without neighbours.
        pixels: raw pixels `(B, p)` in [0, 1], only for a graph that is fixed in pixel space.
    """

    logits: Tensor
    base_logits: Tensor
    gate: Tensor | None
    features: Tensor
    graph: SparseGraph | None
    pixels: Tensor | None = None
    hidden_logits: Tensor | None = None
