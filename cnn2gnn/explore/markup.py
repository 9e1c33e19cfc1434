"""HTML of the panels: quicker than a figure, and as sharp as text."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import pandas as pd

from cnn2gnn.evaluation.nodes import Node, RunNodes
from cnn2gnn.explore.card import NodeCard
from cnn2gnn.explore.pictures import thumbnail
from cnn2gnn.explore.whatif import Prediction
from cnn2gnn.palette import AGAINST, FOR, MODELS, VERDICTS

_IMAGE = "image-rendering: pixelated; object-fit: contain;"


def card_html(card: NodeCard, image: str) -> str:
    """The image, label and verdict of a node, and the three likeliest classes of each model."""
    opinions = {"teacher": card.teacher, "student": card.student, "without graph": card.base}
    colours = {**MODELS, "without graph": MODELS["own"]}
    columns = "".join(
        f"<td style='vertical-align: top; padding-right: 12px'><b>{model}</b>"
        + ("".join(_bar(n, p, colours[model]) for n, p in opinion) if opinion else "<br>unknown")
        + "</td>"
        for model, opinion in opinions.items()
    )
    return (
        f"<table style='line-height: 1.4'><tr><td style='padding-right: 12px'>"
        f"<img src='{image}' style='width: 110px; min-width: 110px; height: 110px; {_IMAGE}'></td>"
        "<td style='vertical-align: top; padding-right: 16px; white-space: nowrap'>"
        f"<b class='cnn2gnn-node'>{card.node}</b><br>true: <b>{escape(card.label)}</b><br>"
        f"<b style='color: {VERDICTS[card.verdict]}'>{card.verdict}</b><br>"
        f"gate {card.gate:.2f}</td>{columns}</tr></table>"
    )


def change_html(before: Prediction, after: Prediction, classes: Sequence[str], label: int) -> str:
    """The likeliest classes' probabilities before and after a change of the graph."""
    best = (before.probabilities + after.probabilities).topk(min(5, len(classes))).indices.tolist()
    best = list(dict.fromkeys([before.predicted, after.predicted, label, *best]))[:5]
    lines = "".join(
        f"<tr><td>{escape(classes[index])}{' (true)' if index == label else ''}</td>"
        f"<td>{before.probabilities[index]:.3f}</td>"
        f"<td class='cnn2gnn-after'>{after.probabilities[index]:.3f}</td>"
        f"<td>{after.probabilities[index] - before.probabilities[index]:+.3f}</td></tr>"
        for index in best
    )
    said, now = classes[before.predicted], classes[after.predicted]
    right = FOR if after.predicted == label else AGAINST
    verdict = f"still {now}" if said == now else f"{said} becomes {now}"
    return (
        f"<b style='color: {right}'>{escape(verdict)}</b>, gate {before.gate:.2f} → "
        f"{after.gate:.2f}<table class='cnn2gnn-table'><tr><th>class"
        f"</th><th>as it is</th><th>what if</th><th>change</th></tr>{lines}</table>"
    )


def ranking_html(ranking: pd.DataFrame, most: int = 12) -> str:
    """Edges by what removing each does to the probability of the predicted class."""
    lines = "".join(
        f"<tr><td>{edge['node']} ({escape(edge['label'])})</td><td>{edge['weight']:.3f}</td>"
        f"<td style='color: {FOR if edge['change'] < 0 else AGAINST}'>{edge['change']:+.4f}</td>"
        f"<td>{edge['change_true']:+.4f}</td><td>{escape(edge['predicted'])}</td></tr>"
        for _, edge in ranking.head(most).iterrows()
    )
    return (
        "<table class='cnn2gnn-table'><tr><th>without edge to</th><th>weight</th>"
        f"<th>predicted class</th><th>true class</th><th>becomes</th></tr>{lines}</table>"
    )


def pairs_html(edges: pd.DataFrame, nodes: RunNodes, most: int = 12) -> str:
    """Edges as pairs of images, a test node beside the bank node it looks at."""
    if edges.empty:
        return "no edges"
    return "".join(
        "<div style='display: inline-block; margin: 4px; line-height: 1.3'>"
        f"<img src='{thumbnail(nodes.image(Node('test', int(edge['test']))))}' {_SIZE}>"
        f"<img src='{thumbnail(nodes.image(Node('bank', int(edge['bank']))))}' {_SIZE}><br>"
        f"{escape(edge['label'])} → {escape(edge['neighbour_label'])}, {edge['weight']:.3f}</div>"
        for _, edge in edges.head(most).iterrows()
    )


_SIZE = f"style='width: 48px; height: 48px; {_IMAGE}'"


def _bar(name: str, share: float, colour: str) -> str:
    return (
        f"<div style='width: 104px'>{escape(name)} <span style='float: right'>{share:.3f}</span>"
        f"<div style='height: 5px; background: #eee'><div style='height: 5px; "
        f"width: {100 * share:.0f}%; background: {colour}'></div></div></div>"
    )
