"""Figures of the method itself: what k, T and λ do, from pure functions and without training."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from cnn2gnn.drawing.lettering import plain_names
from cnn2gnn.drawing.palette import AGAINST, FOR, INK, RESCUED
from cnn2gnn.drawing.style import COLUMN, new_figure, styled
from cnn2gnn.graph import adaptive_weights, effective_neighbours
from cnn2gnn.graph.distances import chosen_distances
from cnn2gnn.registry import LOSSES

_LINES = ("-", "--", ":")
_COLOURS = (FOR, AGAINST, RESCUED)
_MOST = 8  # classes of one answer: those that the teacher thinks of first


@styled
def weights_over_distance(distances: Tensor, k: int, temperatures: Sequence[float]) -> Figure:
    """Weights of adaptive neighbours and of softmax over the distances of one node.

    Args:
        distances: squared, `(M,)` with M > k.
        k: neighbours; the others have no weight.
        temperatures: of the softmax, in units of squared distance.
    """
    x = distances.sort().values  # (M,)
    adaptive = torch.cat([adaptive_weights(x[None, : k + 1])[0], x.new_zeros(len(x) - k)])
    figure = new_figure(COLUMN, 2.2)
    axes = figure.add_subplot()
    axes.plot(x, adaptive, _LINES[0], marker="o", color=_COLOURS[0], label="adaptive")
    for temperature, line, colour in zip(temperatures, _LINES[1:], _COLOURS[1:], strict=False):
        weights, name = (-x[:k] / temperature).softmax(0), f"softmax, {temperature:g}"
        axes.plot(x[:k], weights, line, marker="s", color=colour, label=name)
    boundary = x[k].item()
    axes.axvline(boundary, color=INK, linewidth=0.6, ls=":")
    top = axes.get_ylim()[1]
    axes.annotate("$d_{(k+1)}$", (boundary, top), (3, -8), textcoords="offset points")
    axes.set_xlabel("squared distance d")
    axes.set_ylabel("edge weight s")
    figure.legend(loc="outside upper center", ncols=3)
    return figure


@styled
def effective_over_k(queries: Tensor, keys: Tensor, counts: Sequence[int]) -> Figure:
    """Over how many of its k neighbours a node really spreads its weight; the band is ± one std.

    Args:
        queries: `(N, d)`; keys: `(M, d)`, among which neighbours are found.
        counts: values of k, below M.
    """
    _, distances = chosen_distances(queries, keys, max(counts) + 1)  # (N, max k + 1)
    effective = [effective_neighbours(adaptive_weights(distances[:, : k + 1])) for k in counts]
    mean = np.array([e.mean().item() for e in effective])
    std = np.array([e.std(correction=0).item() for e in effective])
    figure = new_figure(COLUMN, 2.2)
    axes = figure.add_subplot()
    axes.plot(counts, counts, color=INK, ls=":", label="equal weights")
    axes.plot(counts, mean, marker="o", color=FOR, label="adaptive")
    axes.fill_between(counts, mean - std, mean + std, color=FOR, alpha=0.15, linewidth=0)
    axes.set_xlabel("neighbours k")
    axes.set_ylabel("effective neighbours exp(H)")
    figure.legend(loc="outside upper center", ncols=2)
    return figure


@styled
def softened_answer(
    logits: Tensor, classes: Sequence[str], temperatures: Sequence[float]
) -> Figure:
    """One answer of the teacher, softmax(t/T), at several T: the classes it thinks of first.

    Args:
        logits: `(C,)`; classes: their names.
    """
    top = logits.argsort(descending=True)[:_MOST]  # (m,)
    figure = new_figure(COLUMN, 2.2)
    axes = figure.add_subplot()
    width, places = 0.8 / len(temperatures), np.arange(len(top))
    for slot, (temperature, colour) in enumerate(zip(temperatures, _COLOURS, strict=False)):
        shares = (logits / temperature).softmax(0)[top].numpy()
        offset = (slot - (len(temperatures) - 1) / 2) * width
        axes.bar(places + offset, 100 * shares, width, color=colour, label=f"T = {temperature:g}")
    names = plain_names([classes[c] for c in top.tolist()])
    axes.set_xticks(places, names, rotation=90 if max(map(len, names)) > 2 else 0)
    axes.set_ylabel("softened probability [%]")
    figure.legend(loc="outside upper center", ncols=len(temperatures))
    return figure


@styled
def loss_over_sureness(
    teacher_logits: Tensor, labels: Tensor, temperature: float, weights: Sequence[float]
) -> Figure:
    """The loss of a student that says a times what the teacher says, for several λ.

    λ = 0 rewards certainty as long as mistakes cost less; λ = 1 asks for the teacher's own, a = 1.

    Args:
        teacher_logits: `(N, C)`; labels: `(N,)`.
        temperature: T; weights: values of λ.
    """
    loss, scales = LOSSES["kd"], torch.linspace(0, 3, 61)
    figure = new_figure(COLUMN, 2.2)
    axes = figure.add_subplot()
    for weight, line, colour in zip(weights, _LINES, _COLOURS, strict=False):
        losses = [
            loss(
                a * teacher_logits, teacher_logits, labels, temperature=temperature, weight=weight
            ).item()
            for a in scales
        ]
        axes.plot(scales, losses, line, color=colour, label=f"λ = {weight:g}")
    axes.axvline(1, color=INK, linewidth=0.6, ls=":")
    axes.set_xlabel("student's logits [× the teacher's]")
    axes.set_ylabel("loss [nat]")
    figure.legend(loc="outside upper center", ncols=len(weights))
    return figure
