"""The panels around the selected node: what it is, what if, what it sees."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from ipywidgets import (
    HTML,
    BoundedIntText,
    Button,
    Checkbox,
    Dropdown,
    FloatSlider,
    HBox,
    Image,
    IntSlider,
    Layout,
    VBox,
)

from cnn2gnn.drawing.classnames import isolated, short_names, shortened
from cnn2gnn.drawing.palette import AGAINST, CORRECT, FOR, WRONG
from cnn2gnn.evaluation.nodes import Node, RunNodes
from cnn2gnn.explore.clickable import NeighbourStrip
from cnn2gnn.explore.markup import card_html, change_html, line_html, ranking_html
from cnn2gnn.explore.pictures import figure_png, thumbnail
from cnn2gnn.explore.plots import plots
from cnn2gnn.explore.state import ExplorerState
from cnn2gnn.explore.whatif import Prediction

Guard = Callable[[Callable[..., Any]], Callable[..., Any]]


class NodePanel:
    """The selected node and its neighbours; a click walks, a tick switches an edge.

    Args:
        walk: called with a position; switch: with a neighbour and whether it is on.
    """

    def __init__(
        self,
        state: ExplorerState,
        guard: Guard,
        walk: Callable[[int], None],
        switch: Callable[[Node, bool], None],
    ) -> None:
        self._state, self._walk, self._switch = state, walk, switch
        self._card = HTML()
        self._legend = HTML()
        self.strip = NeighbourStrip()
        self.strip.observe(guard(self._acted), "action")
        self.widget = VBox([self._card, self._legend, self.strip])

    def refresh(self) -> None:
        """Show the selected node."""
        state, card, prediction = self._state, self._state.card(), self._state.edited()
        image = state.nodes.image
        self._card.value = card_html(
            card, thumbnail(image(card.node)), state.nodes.player(card.node)
        )
        label = state.nodes.label(card.node)
        focus = list(dict.fromkeys([prediction.predicted, label]))
        names = short_names([state.nodes.classes[index] for index in focus])
        self._legend.value = line_html(
            ("text", "Neighbours, heaviest first; bars for and against "),
            *[piece for name in names for piece in (("text", " and "), ("name", name))][1:],
            ("text", "; solid: layer 2, exact; hatched: layer 1, leave one out (no sum)"),
        )
        items = []
        for position, (_, edge) in enumerate(card.neighbours.iterrows()):
            right = "✓" if edge["same_class"] else "✗"
            items.append(
                {
                    "image": thumbnail(image(edge["node"])),
                    "title": _hint(state.nodes, edge["node"], edge["label"]),
                    "caption": f"{shortened(edge['label'], 14)} {right}",
                    "text": f"{edge['weight']:.3f}",
                    "frame": CORRECT if edge["same_class"] else WRONG,
                    "on": bool(edge["on"]),
                    "bars": _bars(prediction, position, focus, state.nodes.classes),
                }
            )
        self.strip.items = items

    def _acted(self, change: dict) -> None:
        action = change["new"]
        if action["kind"] == "walk":
            self._walk(action["position"])
        else:
            neighbour = self._state.edited().neighbours[action["position"]]
            self._switch(neighbour, action["on"])


def _hint(nodes: RunNodes, node: Node, label: str) -> str:
    """What is shown where the pointer rests on a neighbour."""
    told = [f"{node}, {isolated(label)}", nodes.words(node)]
    return "\n".join(filter(None, told))


def _bars(
    prediction: Prediction, position: int, focus: list[int], classes: tuple[str, ...]
) -> list[dict[str, Any]]:
    """What an edge does to the logits in question, as lengths relative to the longest bar.

    Two bars a class: what layer 2 adds, exactly, and what layer 1 loses without the edge.
    """
    parts = torch.stack([prediction.contributions, prediction.hidden_shares], 2)  # (k, C, 2)
    longest = float(parts[:, focus].abs().max()) or 1.0
    return [
        {
            "length": value / longest,
            "colour": FOR if value >= 0 else AGAINST,
            "hatched": hatched,
            "text": f"{value:+.3f} to the logit of {isolated(classes[index])}, {layer}",
        }
        for index in focus
        for value, (layer, hatched) in zip(
            parts[position, index].tolist(),
            (("layer 2, exact", False), ("layer 1, leave one out", True)),
            strict=True,
        )
    ]


class WhatIfPanel:
    """Controls that change the graph of the selected node, and what comes of it.

    Args:
        changed: called after the state has changed.
    """

    def __init__(self, state: ExplorerState, guard: Guard, changed: Callable[[], None]) -> None:
        self._state, self._changed, self._quiet = state, changed, False
        learner = state.nodes.student.network.learner
        assert learner is not None  # `RunNodes.load` refused a run without graph
        self._k = k = learner.k
        most = min(3 * k, len(state.nodes.bank) // 20)
        wide = {"style": {"description_width": "90px"}, "continuous_update": False}
        self.controls = {
            "k": IntSlider(k, 1, max(most, k), description="k", disabled=not learner.any_k, **wide),
            "min_weight": FloatSlider(0, min=0, max=0.5, step=0.01, description="prune", **wide),
            "bank_share": FloatSlider(
                1, min=0.1, max=1, step=0.1, description="of the bank", **wide
            ),
            "protocol": Dropdown(
                options=["inductive", "batch"], description="protocol", style=wide["style"]
            ),
            "seed": BoundedIntText(0, 0, 10**6, description="seed", style=wide["style"]),
            "replaced": Checkbox(
                False, description="others move up for neighbours that are off", indent=False
            ),
        }
        for name, control in self.controls.items():
            control.observe(guard(self._setter(name)), "value")
        self._reset = Button(description="as it was", icon="undo")
        self._reset.on_click(guard(self._undo))
        self.result, self._ranking = HTML(), HTML()
        self.widget = HBox(
            [
                VBox([*self.controls.values(), self._reset], layout=Layout(width="340px")),
                VBox([self.result], layout=Layout(width="300px")),
                VBox([HTML("<b>What each edge does</b> (computed without it)"), self._ranking]),
            ]
        )

    def refresh(self) -> None:
        """Show the state's change and its result."""
        state = self._state
        self._quiet = True
        try:
            for name, control in self.controls.items():
                value = getattr(state.change, name)
                control.value = self._k if value is None else value
        finally:
            self._quiet = False
        label = state.nodes.label(state.selected)
        self.result.value = change_html(
            state.original(), state.edited(), state.nodes.classes, label
        )
        self._ranking.value = ranking_html(state.edge_ranking())

    def _setter(self, name: str) -> Callable[[dict], None]:
        def set_value(change: dict) -> None:
            if not self._quiet:
                value = change["new"]
                if name == "k" and value == self._k:
                    value = None
                self._state.what_if(**{name: value})
                self._changed()

        return set_value

    def _undo(self, _: Button) -> None:
        self._state.reset()
        self._changed()


class EgoPanel:
    """The ego graph of the selected node; drawn only while it is looked at."""

    def __init__(self, state: ExplorerState, guard: Guard) -> None:
        self._state = state
        self._image = Image(format="png")
        self._image.layout.width = "560px"
        self.widget = VBox([self._image])

    def refresh(self) -> None:
        """Draw two hops around the selected node."""
        self._image.value = figure_png(plots(self._state)["ego graph"]())
