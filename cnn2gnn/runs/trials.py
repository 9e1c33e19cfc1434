"""Parts of the user's own, tried on made-up samples before anything long starts."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from cnn2gnn.base.values import brief
from cnn2gnn.graph import GraphLayer, GraphLearner, SparseGraph

Loss = Callable[..., Tensor]
WIDTH = 8  # of the keys that learners and layers are tried on
_QUERIES = 3


def check_kind(name: str, thing: Any, kind: type) -> None:
    """Compare a part with what it has to be.

    Raises:
        ValueError: it is no `kind`.
    """
    if not isinstance(thing, kind):
        found = f"the class {thing.__name__}" if isinstance(thing, type) else type(thing).__name__
        raise ValueError(f"{name} must be a {kind.__name__}, not {found}")


def check_loss(loss: Loss, classes: int) -> None:
    """Try a loss on two made-up answers.

    Raises:
        ValueError: it fails, or gives no scalar with a gradient to the student's logits, or has
            parameters, which nothing would train.
    """
    student, teacher = torch.zeros(2, classes, requires_grad=True), torch.zeros(2, classes)
    try:
        found = loss(student, teacher, torch.tensor([0, 1]), temperature=4.0, weight=0.5)
    except Exception as error:  # whatever the user's function stumbles over
        raise ValueError(
            "loss(student_logits, teacher_logits, labels, temperature=4.0, weight=0.5) fails: "
            f"{error}"
        ) from error
    if getattr(found, "shape", None) != () or not found.requires_grad:
        raise ValueError(
            f"loss must give a scalar with a gradient to the student's logits, not {brief(found)}"
        )
    if isinstance(loss, nn.Module) and any(p.requires_grad for p in loss.parameters()):
        raise ValueError(f"loss {type(loss).__name__} has parameters, and nothing trains them")


def check_learner(learner: GraphLearner) -> None:
    """Try a copy of a graph learner on random keys, of which each query must not get one.

    Raises:
        ValueError: its k is no number of neighbours, it fails, or gives no graph of the keys with
            finite weights, none of them negative.
    """
    name, k = type(learner).__name__, getattr(learner, "k", None)
    if not isinstance(k, int) or k < 1:
        raise ValueError(f"graph {name}: k={k} must be a whole number, at least 1, set by super()")
    generator = torch.Generator().manual_seed(0)
    keys = torch.randn(2 * k + WIDTH, WIDTH, generator=generator)  # (M, w)
    exclude = torch.arange(_QUERIES)
    call = f"graph {name}(queries {(_QUERIES, WIDTH)}, keys {tuple(keys.shape)}, exclude)"
    tried = copy.deepcopy(learner)
    try:
        tried.build(WIDTH)
        tried.start(keys)
        found = tried(keys[:_QUERIES], keys, exclude)
    except Exception as error:  # whatever the user's learner stumbles over
        raise ValueError(f"{call} fails: {error}") from error
    if not isinstance(found, SparseGraph):
        raise ValueError(f"{call} must give a SparseGraph, not {type(found).__name__}")
    nodes = (_QUERIES, len(keys))
    if (len(found.neighbours), found.sources) != nodes:
        raise ValueError(
            f"{call} must give a SparseGraph with a row a query and sources={len(keys)}, not "
            f"{len(found.neighbours)} rows and sources={found.sources}"
        )
    if not (found.weights >= 0).all() or not found.weights.isfinite().all():
        raise ValueError(
            f"{call} must give finite weights, none negative, not {brief(found.weights)}"
        )
    if ((found.neighbours == exclude[:, None]) & (found.weights > 0)).any():
        raise ValueError(f"{call} must give no query the key that `exclude` names")


def check_layer(layer: GraphLayer) -> None:
    """Try a copy of a layer on a made-up graph, whose last query has no edge.

    Raises:
        ValueError: it is no layer, fails, or gives no graph of the same neighbours with finite
            weights, none of them negative.
    """
    check_kind("layer", layer, GraphLayer)
    generator = torch.Generator().manual_seed(0)
    keys = torch.randn(2 * _QUERIES, WIDTH, generator=generator)  # (M, w)
    neighbours = torch.arange(2 * _QUERIES).view(_QUERIES, 2)
    weights = torch.full((_QUERIES, 2), 0.5)
    weights[-1] = 0
    given = SparseGraph(neighbours, weights, sources=len(keys))
    looked_at = torch.ones(len(keys)) if layer.counts else None
    call = f"layer {type(layer).__name__}(graph, queries, keys, looked_at)"
    try:
        found = copy.deepcopy(layer)(given, keys[:_QUERIES], keys, looked_at)
    except Exception as error:  # whatever the user's layer stumbles over
        raise ValueError(f"{call} fails: {error}") from error
    if not isinstance(found, SparseGraph) or not torch.equal(found.neighbours, neighbours):
        raise ValueError(f"{call} must give the SparseGraph with other weights, nothing else")
    if not (found.weights >= 0).all() or not found.weights.isfinite().all():
        raise ValueError(f"{call} must give finite weights, none negative")
