"""Draw the README's picture: the test digit that its neighbours tell most about, of `make demo`.

python reports/example.py
"""

from __future__ import annotations

from pathlib import Path

from cnn2gnn import Explorer, load_run
from cnn2gnn.evaluation.nodes import TEST

if __name__ == "__main__":
    explorer = Explorer(load_run("demo"))
    nodes = explorer.state.nodes
    true = nodes.labels[TEST][:, None]  # (N, 1)
    without, beside = (
        logits.softmax(1).gather(1, true)[:, 0]  # of the true class, (N,)
        for logits in (nodes.base_logits[TEST], nodes.logits)
    )
    explorer.select(int((beside - without).argmax()))
    Path(__file__).with_suffix(".png").write_bytes(explorer.figures()["node"])
