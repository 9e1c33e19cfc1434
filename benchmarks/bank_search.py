"""Time of the neighbour search in a bank whose keys hold their preparation, against other ways.

45,000 keys of width 128, k = 21, single queries and 500 at once, float32.

    python benchmarks/bank_search.py [--rounds 25]      (with cnn2gnn installed)
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial

import torch
from side_by_side import against, in_turns, keep
from sklearn.neighbors import NearestNeighbors
from torch import Tensor

from cnn2gnn.graph import exact, nearest
from cnn2gnn.graph.search_keys import SearchKeys

KEYS, WIDTH, K = 45_000, 128, 21
OURS = "held keys"


class Rough:
    """Keys in half the bytes propose neighbours, of which true distances choose."""

    def __init__(self, keys: Tensor, dtype: torch.dtype) -> None:
        self.keys, self.rough = keys, keys.to(dtype)
        self.norms = keys.square().sum(1)

    def __call__(self, queries: Tensor) -> Tensor:
        product = self.rough @ queries.to(self.rough.dtype).T  # (M, N)
        scores = self.norms[:, None] - 2 * product.float()
        proposed = exact.smallest(scores, 2 * K)  # (N, 2k), selected as ours are
        apart = (self.keys[proposed] - queries[:, None]).square().sum(2)  # (N, 2k)
        return proposed.gather(1, apart.topk(K, largest=False).indices)


def ways(keys: Tensor) -> dict[str, Callable[[Tensor], object]]:
    """What is compared, by name; each takes queries `(N, d)`."""
    held = SearchKeys.of(keys)
    brute = NearestNeighbors(n_neighbors=K, algorithm="brute").fit(keys.numpy())
    return {
        OURS: lambda queries: nearest(queries, held, K),
        "plain keys": lambda queries: nearest(queries, keys, K),
        "bf16 keys, twice k ranked again": Rough(keys, torch.bfloat16),
        "float16 keys, twice k ranked again": Rough(keys, torch.float16),
        "torch cdist + topk": lambda queries: torch.cdist(queries, keys).topk(K, largest=False),
        "scikit-learn brute": lambda queries: brute.kneighbors(queries.numpy()),
    }


def main() -> None:
    """Measure and keep."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--rounds", type=int, default=25)
    rounds = parser.parse_args().rounds
    generator = torch.Generator().manual_seed(0)
    keys = torch.randn(KEYS, WIDTH, generator=generator)
    compared, rows = ways(keys), []
    for count in (1, 500):
        queries = torch.randn(count, WIDTH, generator=generator)
        assert nearest(queries, SearchKeys.of(keys), K).equal(nearest(queries, keys, K))
        times = in_turns({name: partial(way, queries) for name, way in compared.items()}, rounds)
        rows += [[str(count), *row] for row in against(times, OURS, unit=1e-3)]
    keep(
        "bank_search",
        f"Search in a bank, {KEYS:,} x {WIDTH}, k = {K}",
        ["queries at once", "way", "milliseconds", "times ours"],
        rows,
        "The neighbours of the first two ways are checked to be the same to the bit.",
    )


if __name__ == "__main__":
    main()
