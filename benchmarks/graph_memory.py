"""Memory and time of the graph learner against dense autograd.

Forward and backward of `AdaptiveNeighbours` at N = 16,384 nodes, d = 64, k = 10 beside the same
formula on the dense N x N distance matrix, and ours alone at N = 60,000. Every measurement is a
process of its own on one thread; the peak is that of resident memory (`ru_maxrss`), shown with and
without what the process held before the first tensor (Python, torch and cnn2gnn imported).

    python benchmarks/graph_memory.py [--repeats 3]      (with cnn2gnn installed)
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from statistics import median

D, K = 64, 10
COMPARED, LARGE = 16_384, 60_000  # nodes
MEMORY_TARGET, TIME_TARGET, LARGE_TARGET_GB = 1 / 5, 1 / 3, 4.0


def peak_gb() -> float:
    """Peak resident memory of this process so far, in GB (10⁹ bytes)."""
    unit = 1 if sys.platform == "darwin" else 1024  # bytes of ru_maxrss's unit
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9


def measure(method: str, nodes: int) -> dict[str, float]:
    """Forward and backward once, in this process: seconds of wall clock and CPU, peaks in GB."""
    import torch

    from cnn2gnn.graph import AdaptiveNeighbours, adaptive_weights

    torch.set_num_threads(1)
    baseline = peak_gb()
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(nodes, D, generator=generator).requires_grad_()
    wall, cpu = time.perf_counter(), time.process_time()
    if method == "ours":
        weights = AdaptiveNeighbours(K)(features).weights  # (N, k)
    else:
        distances = torch.cdist(features, features).square()  # (N, N)
        distances.fill_diagonal_(torch.inf)  # no node is its own neighbour
        weights = adaptive_weights(distances.topk(K + 1, dim=1, largest=False).values)  # (N, k)
    weights.square().sum().backward()
    assert features.grad is not None
    return {
        "wall_s": time.perf_counter() - wall,
        "cpu_s": time.process_time() - cpu,
        "peak_gb": peak_gb(),
        "baseline_gb": baseline,
        "net_gb": peak_gb() - baseline,
        "gradient_norm": features.grad.norm().item(),
    }


def in_own_process(method: str, nodes: int) -> dict[str, float]:
    """`measure` in a fresh interpreter."""
    command = [sys.executable, __file__, "--measure", method, "--nodes", str(nodes)]
    one_thread = os.environ | {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    done = subprocess.run(command, env=one_thread, stdout=subprocess.PIPE, check=True, text=True)
    return json.loads(done.stdout)


def spread(rows: list[dict[str, float]], figure: str) -> str:
    """Median and range over the repeats."""
    values = [row[figure] for row in rows]
    return f"{median(values):7.2f} ({min(values):.2f} - {max(values):.2f})"


def main() -> int:
    """Measure, print a table, and return 1 where a target is missed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--measure", choices=("ours", "dense"), help=argparse.SUPPRESS)
    parser.add_argument("--nodes", type=int, default=COMPARED, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        print(json.dumps(measure(arguments.measure, arguments.nodes)))
        return 0

    cases = [("ours", COMPARED), ("dense", COMPARED), ("ours", LARGE)]
    results: dict[tuple[str, int], list[dict[str, float]]] = {case: [] for case in cases}
    for _ in range(arguments.repeats):  # in turn, so that other load meets all alike
        for case in cases:
            results[case].append(in_own_process(*case))

    print(f"d={D}, k={K}, one thread; median (range) of {arguments.repeats}")
    for (method, nodes), rows in results.items():
        print(f"{method:5} N={nodes:6,}")
        for figure in ("wall_s", "cpu_s", "peak_gb", "baseline_gb", "net_gb"):
            print(f"  {figure:11} {spread(rows, figure)}")
    norms = [results[case][0]["gradient_norm"] for case in cases[:2]]
    print(f"gradient norms, ours and dense: {norms[0]:.5g}, {norms[1]:.5g}")

    def ratio(figure: str) -> float:
        ours, dense = (median(row[figure] for row in results[case]) for case in cases[:2])
        return ours / dense

    large_gb = max(row["peak_gb"] for row in results["ours", LARGE])
    print(f"net memory  ours / dense = {ratio('net_gb'):.3f}  target <= {MEMORY_TARGET:.3f}")
    print(f"peak memory ours / dense = {ratio('peak_gb'):.3f}")
    print(f"wall time   ours / dense = {ratio('wall_s'):.3f}  target <= {TIME_TARGET:.3f}")
    print(f"CPU time    ours / dense = {ratio('cpu_s'):.3f}")
    print(f"N={LARGE:,}: peak {large_gb:.2f} GB  target < {LARGE_TARGET_GB} GB")
    met = (
        ratio("net_gb") <= MEMORY_TARGET
        and ratio("wall_s") <= TIME_TARGET
        and large_gb < LARGE_TARGET_GB
    )
    print("targets met" if met else "targets MISSED")
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
