"""The two widgets that ipywidgets lacks: a strip of clickable neighbours, a clickable matrix."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anywidget
import traitlets

_HERE = Path(__file__).parent


class NeighbourStrip(anywidget.AnyWidget):
    """Thumbnails of neighbours with a switch and bars each.

    Its style sheet serves the HTML of `markup` too: they always stand beside it.

    Attributes:
        items: one dictionary per neighbour: image (data URI), title, caption, text, frame
            (colour), on, and bars of {length from −1 to 1, colour, hatched, text}.
        action: the last click: {kind: "walk" or "switch", position, on, count}.
    """

    _esm = _HERE / "strip.js"
    _css = """
    .cnn2gnn-strip {display: flex; flex-wrap: wrap; gap: 6px;}
    .cnn2gnn-neighbour {width: 74px; font-size: 11px; line-height: 1.35;}
    .cnn2gnn-neighbour.off {opacity: 0.35;}
    .cnn2gnn-neighbour img {width: 62px; height: 62px; object-fit: contain; cursor: pointer;
      border: 3px solid; image-rendering: pixelated;}
    .cnn2gnn-neighbour label {display: flex; align-items: center; gap: 2px; cursor: pointer;}
    .cnn2gnn-neighbour input {margin: 0;}
    .cnn2gnn-bar {position: relative; height: 6px; margin-top: 2px; background: linear-gradient(
      90deg, #eee 49.5%, #333 49.5%, #333 50.5%, #eee 50.5%);}
    .cnn2gnn-bar div {position: absolute; top: 0; bottom: 0;}
    .cnn2gnn-bar .hatched {opacity: 0.6;
      mask-image: repeating-linear-gradient(135deg, #000 0 2px, transparent 2px 4px);}
    .cnn2gnn-neighbour label {overflow-wrap: anywhere;}
    .cnn2gnn-card {line-height: 1.4;}
    .cnn2gnn-card td {vertical-align: top; padding-right: 12px;}
    .cnn2gnn-card img, .cnn2gnn-pair img {image-rendering: pixelated; object-fit: contain;}
    .cnn2gnn-share {width: 104px;}
    .cnn2gnn-share div {display: flex; justify-content: space-between; gap: 6px;}
    .cnn2gnn-share bdi {overflow: hidden; text-overflow: ellipsis; white-space: nowrap;}
    .cnn2gnn-share hr {margin: 0; border: 0; border-top: 5px solid;}
    .cnn2gnn-pair {display: inline-block; margin: 4px; line-height: 1.3; max-width: 200px;
      overflow-wrap: anywhere;}
    .cnn2gnn-pair img {display: inline; width: 48px; height: 48px;}
    .cnn2gnn-table {line-height: 1.45;}
    .cnn2gnn-table th, .cnn2gnn-table td {padding: 0 14px 0 0; text-align: left;}
    """

    items: traitlets.List[Any] = traitlets.List().tag(sync=True)
    action = traitlets.Dict().tag(sync=True)


class ClickableMatrix(anywidget.AnyWidget):
    """A square matrix; a click on a cell sets `cell` to [row, column].

    Attributes:
        names: of rows and columns; colours, texts: one per cell.
    """

    _esm = _HERE / "matrix.js"
    _css = ".cnn2gnn-matrix {cursor: pointer;}"

    names: traitlets.List[Any] = traitlets.List().tag(sync=True)
    colours: traitlets.List[Any] = traitlets.List().tag(sync=True)
    texts: traitlets.List[Any] = traitlets.List().tag(sync=True)
    cell: traitlets.List[Any] = traitlets.List().tag(sync=True)
