"""The plots of a state by name: what a headless run shows, and what can be exported."""

from __future__ import annotations

from collections.abc import Callable

from matplotlib.figure import Figure

from cnn2gnn.drawing.lettering import plain_names
from cnn2gnn.drawing.style import styled
from cnn2gnn.evaluation import coordinates
from cnn2gnn.evaluation.nodes import Node
from cnn2gnn.explore import figures, graph_figures, time_figures
from cnn2gnn.explore.state import ExplorerState


def plots(state: ExplorerState, colour: str = "class") -> dict[str, Callable[[], Figure]]:
    """Return what draws each plot of the present state.

    Args:
        colour: of the map; see `colouring`.
    """
    nodes = state.nodes
    label = nodes.label(state.selected)

    def the_map() -> Figure:
        """All nodes, with the edges that the selected one has now."""
        prediction = state.edited()
        on = prediction.weights > 0
        ends = [n for n, there in zip(prediction.neighbours, on.tolist(), strict=True) if there]
        return graph_figures.map_figure(
            state.places,
            state.colours(colour),
            len(nodes),
            node=nodes.row(state.selected),
            neighbours=[nodes.row(node) for node in ends],
            weights=prediction.weights[on],
            title=f"{state.projection.upper()} of {coordinates.described(nodes)}\n"
            f"coloured by {colour}",
        )

    def evidence() -> Figure:
        prediction = state.edited()
        classes = plain_names(nodes.classes)
        names = [f"{node} ({classes[nodes.label(node)]})" for node in prediction.neighbours]
        return figures.evidence_figure(prediction, nodes.classes, label, names)

    def same_class(node: Node) -> bool:
        return nodes.label(node) == label

    timelines = [t for t in (state.timeline, state.other) if t.passes]
    drawn: dict[str, Callable[[], Figure]] = {
        "map": the_map,
        "node": lambda: figures.card_figure(state.card(), nodes.image),
        "evidence": evidence,
        "what if": lambda: figures.change_figure(
            state.original(), state.edited(), nodes.classes, label
        ),
        "ranking": lambda: figures.ranking_figure(state.edge_ranking()),
        "matrix": lambda: graph_figures.matrix_figure(state.edges.mixing, nodes.classes),
        "adjacency": lambda: graph_figures.adjacency_figure(nodes),
        "wrong-class edges": lambda: graph_figures.pairs_figure(
            state.edges.between_classes(), nodes.image
        ),
        "ego graph": lambda: graph_figures.ego_figure(state.ego(2), nodes.image, same_class),
    }
    if timelines:
        drawn["time"] = lambda: time_figures.timeline_figure(timelines)
        drawn["mixing over time"] = lambda: time_figures.evolution_figure(timelines, nodes.classes)
    return {name: styled(draw) for name, draw in drawn.items()}
