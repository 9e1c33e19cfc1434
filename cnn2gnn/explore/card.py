"""The card of a node: what it is, what is said of it, and who its neighbours are."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from cnn2gnn.evaluation.nodes import Node, RunNodes
from cnn2gnn.evaluation.verdicts import verdicts
from cnn2gnn.explore.whatif import Prediction


@dataclass(frozen=True)
class NodeCard:
    """What the node panel shows; classes by name, probabilities in [0, 1].

    Attributes:
        verdict: correct, rescued (wrong without the graph), harmed (right without), or wrong.
        student, base, teacher: the three likeliest classes, likeliest first; `base` is the student
            without its graph; no `teacher` where its answer is not at hand.
        neighbours: one line per edge, heaviest first: node, label, weight, distance, same_class
            (as the true label of the node), on.
    """

    node: Node
    label: str
    verdict: str
    gate: float
    student: list[tuple[str, float]]
    base: list[tuple[str, float]]
    teacher: list[tuple[str, float]] | None
    neighbours: pd.DataFrame

    @property
    def opinions(self) -> dict[str, list[tuple[str, float]] | None]:
        """What each model says, by its name in `palette.MODELS`."""
        return {"teacher": self.teacher, "student": self.student, "no_graph": self.base}


def node_card(nodes: RunNodes, prediction: Prediction) -> NodeCard:
    """Describe the node of a prediction."""
    label, classes = nodes.label(prediction.node), nodes.classes
    teacher = nodes.teacher_logits_of(prediction.node)
    labels = [nodes.label(neighbour) for neighbour in prediction.neighbours]
    distances = prediction.distances
    neighbours = pd.DataFrame(
        {
            "node": prediction.neighbours,
            "label": [classes[other] for other in labels],
            "weight": prediction.weights.numpy(),
            "distance": np.nan if distances is None else distances.numpy(),
            "same_class": [other == label for other in labels],
            "on": prediction.on.numpy(),
        }
    )
    return NodeCard(
        node=prediction.node,
        label=classes[label],
        verdict=_verdict(prediction, label),
        gate=prediction.gate,
        student=_likeliest(prediction.logits, classes),
        base=_likeliest(prediction.base_logits, classes),
        teacher=None if teacher is None else _likeliest(teacher, classes),
        neighbours=neighbours,
    )


def _verdict(prediction: Prediction, label: int) -> str:
    found = verdicts(prediction.logits[None], prediction.base_logits[None], torch.tensor([label]))
    return found[0]


def _likeliest(logits: Tensor, classes: tuple[str, ...], most: int = 3) -> list[tuple[str, float]]:
    values, best = logits.softmax(0).topk(min(most, len(logits)))
    return list(zip([classes[index] for index in best], values.tolist(), strict=True))
