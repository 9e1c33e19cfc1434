"""Keys in parts: whatever the parts, what is found is what the whole has nearest, ties by index."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import normalize

from cnn2gnn.graph import nearest, sharded
from cnn2gnn.graph.search_keys import SearchKeys
from cnn2gnn.graph.sharded import merge_parts, nearest_in_part


def in_parts(
    queries: Tensor, keys: Tensor, k: int, exclude: Tensor | None, sizes: list[int]
) -> Tensor:
    """The search of simulated processes, whose parts of the keys have these sizes."""
    found, start = [], 0
    for part in keys.split(sizes):
        own = None if exclude is None else exclude - start
        indices, distances = nearest_in_part(queries, SearchKeys.of(part), k, own)
        found.append(((indices + start).where(indices >= 0, -1), distances))
        start += len(part)
    return merge_parts(*(torch.stack(each) for each in zip(*found, strict=True)))


def brute_force(queries: Tensor, keys: Tensor, k: int, exclude: Tensor | None) -> Tensor:
    """Distances of all pairs from differences, ties by index."""
    distances = (queries[:, None] - keys).square().sum(2)  # (N, M)
    if exclude is not None:
        distances[exclude[:, None] == torch.arange(len(keys))] = torch.inf
    return distances.argsort(dim=1, stable=True)[:, :k]


@st.composite
def searches(draw: st.DrawFn) -> tuple[Tensor, Tensor, int, Tensor | None, list[int]]:
    """Points of which rounding, ties or neither decide the order; up to five parts."""
    n, m, d = draw(st.integers(1, 12)), draw(st.integers(3, 150)), draw(st.integers(1, 40))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    dtype = draw(st.sampled_from([torch.float32, torch.float64]))
    points = torch.randn(n + m, d, generator=generator, dtype=dtype)
    kind = draw(st.sampled_from(["anywhere", "grid", "few places", "far away", "equally far"]))
    if kind == "grid":
        points = points.round()
    elif kind == "few places":
        points = points[torch.randint(3, (n + m,), generator=generator)]
    elif kind == "far away":
        points = points + 1000
    elif kind == "equally far":  # from the first query, up to rounding
        points[n:] = points[0] + normalize(points[n:])
    exclude = torch.randint(-1, m, (n,), generator=generator) if draw(st.booleans()) else None
    cuts = draw(st.lists(st.integers(1, m - 1), max_size=4, unique=True))
    bounds = [0, *sorted(cuts), m]
    sizes = [stop - start for start, stop in zip(bounds, bounds[1:], strict=False)]
    return points[:n], points[n:], draw(st.integers(1, min(m - 1, 25))), exclude, sizes


@settings(max_examples=300)
@given(searches())
def test_the_parts_find_what_the_whole_has_nearest(
    case: tuple[Tensor, Tensor, int, Tensor | None, list[int]],
) -> None:
    queries, keys, k, exclude, sizes = case
    found = in_parts(queries, keys, k, exclude, sizes)
    assert found.equal(brute_force(queries, keys, k, exclude))


@settings(max_examples=60)
@given(st.integers(0, 2**31), st.integers(1, 5))
def test_it_is_the_search_of_one_process(seed: int, parts: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    queries, keys = (
        torch.randn(rows, 16, generator=generator, dtype=torch.float64) for rows in (30, 700)
    )  # in float64, rounding decides on none of them
    exclude = torch.randint(-1, 700, (30,), generator=generator)
    sizes = [len(part) for part in torch.arange(700).tensor_split(parts)]
    found = in_parts(queries, keys, 21, exclude, sizes)
    assert found.equal(nearest(queries, keys, 21, exclude))


def test_a_part_looks_no_further_than_it_must(monkeypatch: pytest.MonkeyPatch) -> None:
    looked_at = []

    def spied(queries: Tensor, keys: Tensor, k: int) -> Tensor:
        looked_at.append((len(queries), k))
        return nearest(queries, keys, k)

    monkeypatch.setattr(sharded, "nearest", spied)
    torch.manual_seed(0)
    queries, keys = torch.randn(50, 64), torch.randn(5000, 64)
    keys[:100] = queries[0]  # of which nobody knows which twenty of a hundred come first
    found, _ = nearest_in_part(queries, keys, 20)
    assert looked_at == [(50, 29), (1, 116)]
    assert found[0].equal(torch.arange(20))


def test_too_few_keys_are_told() -> None:
    keys = torch.randn(6, 3)
    assert in_parts(keys, keys, 5, torch.arange(6), [2, 4]).shape == (6, 5)
    with pytest.raises(ValueError, match="k=6, but a query has only 5 candidates"):
        in_parts(keys, keys, 6, torch.arange(6), [2, 4])
