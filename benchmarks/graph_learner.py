"""Forward and backward of the graph learner, beside dense autograd, entmax and a graph by PyG.

Nodes of d = 64 among themselves, k = 10. Each measurement is a process of its own on one thread,
for its peak of memory: resident, without what the process held before the first tensor.

    python benchmarks/graph_learner.py [--rounds 3]      (pip install '.[bench]')
"""

from __future__ import annotations

import argparse
import json
import math
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from itertools import pairwise
from statistics import median

from side_by_side import keep, spread

D, K = 64, 10
NODES = (512, 2048, 8192, 16_384, 65_536)
# what of N x N floats, several times over in autograd, fits into memory and patience
LARGEST = {"ours": 65_536, "dense": 16_384, "entmax": 8192, "scikit-learn + PyG": 65_536}


def peak_mb() -> float:
    """Peak resident memory of this process so far, in MB (10⁶ bytes)."""
    unit = 1 if sys.platform == "darwin" else 1024  # bytes of ru_maxrss's unit
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


def learner(method: str) -> Callable[..., object]:
    """From features `(N, d)` to what is differentiated; imported before the clock runs."""
    import torch

    if method == "ours":
        from cnn2gnn.graph import AdaptiveNeighbours

        return lambda x: AdaptiveNeighbours(K)(x).weights  # (N, k)
    if method == "scikit-learn + PyG":
        from sklearn.neighbors import kneighbors_graph
        from torch_geometric.nn import GATv2Conv
        from torch_geometric.utils import from_scipy_sparse_matrix

        torch.manual_seed(0)
        layer = GATv2Conv(D, D, add_self_loops=False)
        return lambda x: layer(
            x, from_scipy_sparse_matrix(kneighbors_graph(x.detach().numpy(), K))[0]
        )

    def distances(x: torch.Tensor) -> torch.Tensor:
        squares = torch.cdist(x, x).square()  # (N, N)
        return squares.fill_diagonal_(torch.inf)  # no node is its own neighbour

    if method == "dense":
        from cnn2gnn.graph import adaptive_weights

        return lambda x: adaptive_weights(distances(x).topk(K + 1, dim=1, largest=False).values)
    from entmax import sparsemax

    # adaptive neighbours are sparsemax of −d / 2γ; one γ for all does for the time
    return lambda x: sparsemax(-distances(x).clamp(max=1e6) / D, dim=1, k=K)


def measure(method: str, nodes: int) -> dict[str, float]:
    """Forward and backward once, in this process."""
    import torch

    torch.set_num_threads(1)
    learn = learner(method)
    generator = torch.Generator().manual_seed(0)
    learn(torch.randn(64, D, generator=generator).requires_grad_())  # what a first call loads
    before = peak_mb()
    features = torch.randn(nodes, D, generator=generator).requires_grad_()
    began = time.perf_counter()
    learn(features).square().sum().backward()  # type: ignore[attr-defined]
    assert features.grad is not None
    return {"seconds": time.perf_counter() - began, "mb": peak_mb() - before}


def in_own_process(method: str, nodes: int) -> dict[str, float]:
    """`measure` in a fresh interpreter."""
    command = [sys.executable, __file__, "--measure", method, "--nodes", str(nodes)]
    one_thread = os.environ | {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    done = subprocess.run(command, env=one_thread, stdout=subprocess.PIPE, check=True, text=True)
    return json.loads(done.stdout)


def main() -> None:
    """Measure and keep, or be the process that measures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--measure", choices=LARGEST, help=argparse.SUPPRESS)
    parser.add_argument("--nodes", type=int, default=0, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(measure(options.measure, options.nodes)))
        return
    rows, ours = [], {}
    for nodes in NODES:
        methods = [method for method, largest in LARGEST.items() if nodes <= largest]
        found: dict[str, list[dict[str, float]]] = {method: [] for method in methods}
        for _ in range(options.rounds):
            for method in methods:
                found[method].append(in_own_process(method, nodes))
        ours[nodes] = median(row["seconds"] for row in found["ours"])
        for method, measured in found.items():
            seconds, mb = ([row[name] for row in measured] for name in ("seconds", "mb"))
            times = [s / own["seconds"] for s, own in zip(seconds, found["ours"], strict=True)]
            rows.append([f"{nodes:,}", method, spread(seconds), spread(times), spread(mb)])
    slopes = ", ".join(
        f"{math.log(ours[b] / ours[a]) / math.log(b / a):.2f}" for a, b in pairwise(NODES)
    )
    keep(
        "graph_learner",
        f"Graph learner, forward and backward, d = {D}, k = {K}",
        ["nodes", "way", "seconds", "times ours", "peak MB"],
        rows,
        f"Slope of our seconds in N on a double logarithmic scale, from size to size: {slopes} "
        "(2 is the exact search's N²). `dense` is the same formula on the N x N distances, "
        "`entmax` sparsemax on them; scikit-learn finds neighbours without gradient for a "
        "`GATv2Conv`, since PyG's own `knn_graph` needs compiled extensions.",
    )


if __name__ == "__main__":
    main()
