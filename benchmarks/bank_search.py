"""Time of the neighbour search in a bank whose keys hold their preparation, against other ways.

45,000 keys of width 128, k = 21, single queries and 500 at once, float32. The ways take turns, so
that other load on the machine meets all alike; a ratio is the median over the rounds of the ratio
within a round, with its quartiles. Neighbours are checked to be the same to the bit.

    python benchmarks/bank_search.py [--rounds 25]      (with cnn2gnn installed)
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from statistics import median, quantiles

import torch
from sklearn.neighbors import NearestNeighbors
from torch import Tensor

from cnn2gnn.graph import nearest
from cnn2gnn.graph.search import SearchKeys

KEYS, WIDTH, K = 45_000, 128, 21
OURS = "held keys"


def ways(keys: Tensor) -> dict[str, Callable[[Tensor], object]]:
    """What is compared, by name; each takes queries `(N, d)`."""
    held = SearchKeys.of(keys)
    brute = NearestNeighbors(n_neighbors=K, algorithm="brute").fit(keys.numpy())
    return {
        OURS: lambda queries: nearest(queries, held, K),
        "plain keys": lambda queries: nearest(queries, keys, K),
        "torch cdist + topk": lambda queries: torch.cdist(queries, keys).topk(K, largest=False),
        "scikit-learn brute": lambda queries: brute.kneighbors(queries.numpy()),
    }


def milliseconds(call: Callable[[Tensor], object], queries: Tensor) -> float:
    """Wall clock of one call."""
    began = time.perf_counter()
    call(queries)
    return 1000 * (time.perf_counter() - began)


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--rounds", type=int, default=25)
    rounds = parser.parse_args().rounds
    generator = torch.Generator().manual_seed(0)
    keys = torch.randn(KEYS, WIDTH, generator=generator)
    compared = ways(keys)
    print(f"{KEYS:,} x {WIDTH}, k={K}, {torch.get_num_threads()} threads, {rounds} rounds")
    for count in (1, 500):
        queries = torch.randn(count, WIDTH, generator=generator)
        assert nearest(queries, SearchKeys.of(keys), K).equal(nearest(queries, keys, K))
        for call in compared.values():
            call(queries)  # the first call allocates
        times: dict[str, list[float]] = {name: [] for name in compared}
        for _ in range(rounds):
            for name, call in compared.items():
                times[name].append(milliseconds(call, queries))
        print(f"{count} queries at once")
        for name, taken in times.items():
            ratios = [other / own for other, own in zip(taken, times[OURS], strict=True)]
            low, _, high = quantiles(ratios, n=4)
            print(
                f"  {name:20} {median(taken):8.2f} ms   "
                f"{median(ratios):5.2f} ({low:.2f} - {high:.2f}) x {OURS}"
            )


if __name__ == "__main__":
    main()
