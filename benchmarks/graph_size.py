"""Graphs over whole data sets: time, peak memory, and recall of the approximate search.

Forward and backward of `AdaptiveNeighbours`, k = 20, on points of 64 dimensions in 1,000 clusters
that lie in 16 dimensions: 60,000 nodes, which are searched exactly, and 200,000 with each index
that is installed; with `--million` also 1,000,000. Recall@20 is that of 1,000 nodes drawn by chance
against the exact search. Every measurement is a process of its own; the peak is that of resident
memory (`ru_maxrss`), Python, torch and the points included.

    python benchmarks/graph_size.py [--million] [--index hnsw]      (with cnn2gnn installed)
    python benchmarks/graph_size.py --nodes 200000 --white          one alone, printed, not kept

White points fill all of their 488 dimensions, as learned keys nearly do: no index finds enough.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from importlib.util import find_spec
from typing import TYPE_CHECKING

from side_by_side import keep, spread

if TYPE_CHECKING:
    import torch

D, K, CLUSTERS, INNER = 64, 20, 1_000, 16
WHITE = 488  # dimensions of white points
EXACT, APPROXIMATE, MILLION = 60_000, 200_000, 1_000_000  # nodes
SAMPLE = 1_000  # nodes whose neighbours are compared


def measure(nodes: int, index: str, white: bool) -> dict[str, float]:
    """A graph over `nodes` points, once, in this process: seconds, peak in GB (10⁹ bytes)."""
    import torch

    from cnn2gnn.graph import AdaptiveNeighbours, approximate, nearest

    approximate.method = lambda: index
    torch.manual_seed(0)
    points = torch.randn(nodes, WHITE) if white else clustered(nodes)
    points.requires_grad_()
    wall, cpu = time.perf_counter(), time.process_time()
    graph = AdaptiveNeighbours(K)(points)
    forward = time.perf_counter() - wall
    graph.weights.square().sum().backward()
    result = {
        "forward_s": forward,
        "wall_s": time.perf_counter() - wall,
        "cpu_s": time.process_time() - cpu,
        "threads": torch.get_num_threads(),
        "peak_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _RSS_UNIT / 1e9,
    }
    drawn = torch.randperm(nodes)[:SAMPLE]
    points = points.detach()
    exact = nearest(points[drawn], points, K, drawn)  # few queries: exact however many keys
    hits = graph.neighbours[drawn, :, None] == exact[:, None]  # (SAMPLE, K, K)
    return result | {"recall": hits.any(2).double().mean().item()}


def clustered(nodes: int) -> torch.Tensor:
    """Points `(nodes, D)` in clusters of few dimensions."""
    import torch

    centres = 2 * torch.randn(CLUSTERS, INNER)
    inner = centres[torch.randint(CLUSTERS, (nodes,))] + torch.randn(nodes, INNER)
    return inner @ torch.randn(INNER, D) / 4 + 0.3 * torch.randn(nodes, D)


_RSS_UNIT = 1 if sys.platform == "darwin" else 1024  # bytes


def in_own_process(nodes: int, index: str) -> dict[str, float]:
    """`measure` in a fresh interpreter."""
    command = [sys.executable, __file__, "--nodes", str(nodes), "--index", index]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
    return json.loads(done.stdout)


def main() -> None:
    """Measure and keep, or be the process that measures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--million", action="store_true", help="also 1,000,000 nodes: takes long")
    parser.add_argument("--index", help="this index only: hnsw or nn-descent")
    parser.add_argument("--nodes", type=int, help="this many alone, printed and not kept")
    parser.add_argument("--white", action="store_true", help="of white points, with --nodes")
    arguments = parser.parse_args()
    installed = ("hnsw", "nn-descent") if find_spec("faiss") else ("nn-descent",)
    if arguments.nodes:
        index = arguments.index or installed[0]
        print(json.dumps(measure(arguments.nodes, index, arguments.white)))
        return
    indices = (arguments.index,) if arguments.index else installed
    sizes = (APPROXIMATE, MILLION) if arguments.million else (APPROXIMATE,)
    cases = [(EXACT, "exact"), *((nodes, index) for nodes in sizes for index in indices)]
    rows = []
    for nodes, index in cases:
        found = in_own_process(nodes, index)
        figures = (found[name] for name in ("wall_s", "forward_s", "cpu_s", "peak_gb", "recall"))
        rows.append([f"{nodes:,}", index, *(spread([figure]) for figure in figures)])
    keep(
        "graph_size",
        f"Graphs over whole data sets, d = {D}, k = {K}, forward and backward",
        ["nodes", "search", "seconds", "of them search", "CPU seconds", "peak GB", f"recall@{K}"],
        rows,
        f"Up to 100,000 nodes the search is exact; recall is that of {SAMPLE:,} nodes.",
    )


if __name__ == "__main__":
    main()
