"""`nearest` against brute force, and its errors."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cnn2gnn.graph import AdaptiveNeighbours, Heads, exact, nearest, rough, search_keys
from cnn2gnn.graph.cosine import CosineNeighbours
from cnn2gnn.graph.search_keys import SearchKeys


def brute_force(queries, keys, k, exclude=None):
    """Distances from differences, in float64, of all pairs."""
    if keys is None:
        keys, exclude = queries, torch.arange(len(queries))
    distances = (queries.double().unsqueeze(1) - keys.double()).square().sum(2)
    for row, key in enumerate([] if exclude is None else exclude.tolist()):
        if key >= 0:
            distances[row, key] = torch.inf
    return distances.argsort(dim=1)[:, :k]


@st.composite
def searches(draw):
    n, m, d = draw(st.integers(1, 30)), draw(st.integers(2, 400)), draw(st.integers(1, 9))
    k = draw(st.integers(1, min(m - 1, 25)))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    queries = torch.randn(n, d, generator=generator, dtype=torch.float64)
    keys = torch.randn(m, d, generator=generator, dtype=torch.float64)
    exclude = torch.randint(-1, m, (n,), generator=generator)
    return queries, keys, k, exclude


@settings(max_examples=60, deadline=None)
@given(searches())
def test_equals_brute_force_on_any_shape(case):
    queries, keys, k, exclude = case
    assert nearest(queries, keys, k, exclude).equal(brute_force(queries, keys, k, exclude))
    assert nearest(queries, keys, k).equal(brute_force(queries, keys, k))
    assert nearest(keys, None, k).equal(brute_force(keys, None, k))


@pytest.mark.parametrize("count", [17, 320, 1000, 1603])
def test_two_stage_selection_is_exact(count):
    torch.manual_seed(0)
    scores = torch.stack([torch.randperm(count).float() for _ in range(50)])  # (50, M)
    scores[0] = torch.arange(count)  # the smallest lie in neighbouring rows
    scores[1] = torch.arange(count).flip(0)  # … and in the rest that fills no block
    found = scores.gather(1, exact.smallest(scores.T, 10))
    assert found.equal(torch.arange(10.0).expand(50, -1))


def counted(monkeypatch, name):
    """Calls of a function of `exact`, with how many queries each."""
    calls, function = [], getattr(exact, name)
    monkeypatch.setattr(exact, name, lambda *a: calls.append(len(a[0])) or function(*a))
    return calls


def rounding(monkeypatch):
    """Have all searches that can begin among rounded keys, whatever the processor."""
    monkeypatch.setattr(rough, "computes_in_bf16", lambda: True)
    monkeypatch.setattr(rough, "QUERIES", 1)
    monkeypatch.setattr(rough, "KEYS", 1)


def assert_as_near(found, expected, queries, keys):
    """The same keys, or others that are as near as the rounding of float32 can tell."""
    apart = [
        (queries[:, None].double() - keys[near].double()).square().sum(2).sort(1).values
        for near in (found, expected)
    ]
    reach = (queries.norm(dim=1) + keys.norm(dim=1).max()).double().square()[:, None]
    rounding = 2 * (queries.shape[1] + 8) * 2**-23 * reach
    assert ((apart[0] - apart[1]).abs() <= rounding).all()
    assert all(len(row.unique()) == len(row) for row in found)


def spread(kind, n, d):
    """Points `(n, d)` that are easy to tell apart when rounded, or hard."""
    points = torch.randn(n, d)
    if kind == "duplicates":
        points[n // 2 :] = points[: n - n // 2]
    elif kind == "close":  # all the same in bf16
        points = 10 + points / 1000
    elif kind == "outliers":
        points[:3] *= 1000
    elif kind == "aside":  # long, but not seen from their middle
        points += 30
    elif kind == "tiny":
        points *= 1e-25
    elif kind == "huge":
        points *= 1e15
    elif kind == "clusters":
        points = points / 50 + torch.randn(5, d)[torch.arange(n) % 5]
    return points


@pytest.mark.parametrize(
    "kind", ["gauss", "duplicates", "close", "outliers", "aside", "tiny", "huge", "clusters"]
)
@pytest.mark.parametrize("rows", [1, 30, 1000])
def test_rounded_keys_change_no_neighbour(monkeypatch, kind, rows):
    torch.manual_seed(0)
    keys, queries = spread(kind, 700, 24), spread(kind, 90, 24)
    queries[:20] = keys[:20]
    exclude = torch.arange(90).where(torch.arange(90) < 20, -1)
    expected = [nearest(queries, keys, 6, exclude), nearest(keys, None, 6)]
    rounding(monkeypatch)
    monkeypatch.setattr(exact, "DISTANCE_BYTES", rows * 2 * len(keys))
    looked = counted(monkeypatch, "_among_rough")
    found = [nearest(queries, SearchKeys.of(keys), 6, exclude), nearest(keys, None, 6)]
    assert len(looked) == 2
    assert not (found[0] == exclude[:, None]).any()
    for mine, theirs, asked in zip(found, expected, (queries, keys), strict=True):
        assert_as_near(mine, theirs, asked, keys)


@settings(max_examples=60, deadline=None)
@given(searches())
def test_rounded_keys_equal_brute_force_on_any_shape(case):
    queries, keys, k, exclude = case
    with pytest.MonkeyPatch.context() as patch:
        rounding(patch)
        queries, keys = queries.float(), keys.float()
        found, expected = (f(queries, keys, k, exclude) for f in (nearest, brute_force))
        assert_as_near(found, expected, queries, keys)
        assert not (found == exclude[:, None]).any()
        assert_as_near(nearest(keys, None, k), brute_force(keys, None, k), keys, keys)


def test_most_rows_of_rounded_keys_are_sure_and_only_the_others_searched_again(monkeypatch):
    torch.manual_seed(0)
    keys, queries = torch.randn(5000, 64), torch.randn(200, 64)
    keys[:100] = keys[0] + keys[:100] / 1000  # nearer to each other than rounding tells
    queries[:3] = keys[0]
    rounding(monkeypatch)
    again = counted(monkeypatch, "_brute_force")
    found = nearest(queries, keys, 10)
    assert (found[:3] < 100).all()
    assert found[3:].equal(brute_force(queries, keys, 10)[3:])
    assert 3 <= sum(again) <= 10


@pytest.mark.parametrize("kind", ["gauss", "outliers", "aside", "clusters", "close", "duplicates"])
def test_candidates_hold_the_nearest_without_proof(monkeypatch, kind):
    torch.manual_seed(0)
    keys = spread(kind, 3000, 64)
    queries, exclude = keys[:200].clone(), torch.arange(200)
    rounding(monkeypatch)
    again = counted(monkeypatch, "_brute_force")
    found = nearest(queries, keys, 20, exclude, proved=False)
    assert not (found == exclude[:, None]).any()
    assert all(len(row.unique()) == 20 for row in found)
    # what rounding leaves all the same is searched again
    assert (sum(again) > 190) == (kind in ("outliers", "clusters"))
    expected = brute_force(queries, keys, 10, exclude)
    reach = (queries[:, None] - keys[found]).norm(dim=2).amax(1)
    wanted = (queries[:, None] - keys[expected]).norm(dim=2).amax(1)
    assert (wanted <= reach).all()
    held = (expected[:, :, None] == found[:, None]).any(2)
    assert held.double().mean() > 0.999


@pytest.mark.parametrize("offset", [0, 0.5, 100])
def test_rounded_keys_are_sure_wherever_the_points_lie(monkeypatch, offset):
    torch.manual_seed(0)
    keys, queries = torch.rand(2000, 300) + offset, torch.rand(100, 300) + offset
    rounding(monkeypatch)
    again = counted(monkeypatch, "_brute_force")
    nearest(queries, keys, 10)
    assert sum(again) <= 5


@pytest.mark.parametrize("height", [0.0, 5.0, 300.0])
@pytest.mark.parametrize("kind", ["gauss", "outliers", "aside", "duplicates"])
def test_raised_keys_are_found_as_they_are_and_surely(monkeypatch, kind, height):
    """What is the same for all of them costs no digit, and a height nothing in the product."""
    torch.manual_seed(0)
    points, asked = spread(kind, 2000, 100), spread(kind, 90, 100)
    heights = height + 3 * torch.rand(2000)
    keys = torch.cat([points, heights[:, None]], 1)
    queries = torch.cat([asked, torch.zeros(90, 1)], 1)
    expected = brute_force(queries, keys, 6)
    rounding(monkeypatch)
    again = counted(monkeypatch, "_brute_force")
    assert_as_near(nearest(queries, SearchKeys.of(keys, raised=True), 6), expected, queries, keys)
    if kind in ("gauss", "aside"):
        assert sum(again) <= 9
    # who is not as was said is answered all the same
    queries[3, -1] = height
    found = nearest(queries, SearchKeys.of(keys, raised=True), 6)
    assert_as_near(found, brute_force(queries, keys, 6), queries, keys)


def test_parts_of_raised_keys_are_raised(monkeypatch):
    held = SearchKeys.of(torch.rand(40, 6), raised=True)
    parts = search_keys.derived_from(held, 2, lambda whole: [*whole.chunk(2, 1)])
    assert [part.prepared.raised for part in parts] == [True, True]


def test_rounded_keys_are_for_many_queries_among_many_keys_in_float32(monkeypatch):
    monkeypatch.setattr(rough, "computes_in_bf16", lambda: True)
    keys, queries = torch.randn(16_384, 4), torch.randn(16, 4)
    looked = counted(monkeypatch, "_among_rough")
    nearest(queries, keys, 3)
    assert looked == [16]
    for other in (queries[:15], queries.double()):
        nearest(other, keys, 3)
    nearest(queries, keys[1:], 3)
    nearest(queries, keys, 1100)  # an eighth of the keys would be proposed
    monkeypatch.setattr(rough, "computes_in_bf16", lambda: False)
    nearest(queries, keys, 3)
    assert looked == [16]


def test_numbers_lose_as_much_as_the_bound_says():
    numbers = torch.linspace(1, 2, 2**17, dtype=torch.float64)
    halves = numbers.float().bfloat16()  # as ½‖x‖² − m is held: in two parts
    rest = (numbers - halves.double()).float().bfloat16()
    for found, unit in ((halves.double(), rough._UNIT), (halves.double() + rest, rough._UNIT**2)):
        lost = ((found - numbers).abs() / numbers).max().item()
        assert 0.4 * unit < lost <= unit


def test_held_keys_are_rounded_once(monkeypatch):
    torch.manual_seed(0)
    rounding(monkeypatch)
    held, calls, rounded = SearchKeys.of(torch.randn(500, 8)), [], rough.RoundedKeys.of
    monkeypatch.setattr(rough.RoundedKeys, "of", lambda *given: calls.append(1) or rounded(*given))
    for _ in range(3):
        nearest(torch.randn(5, 8), held, 2)
    assert len(calls) == 1


def test_held_keys_are_rounded_for_a_single_query_too(monkeypatch):
    torch.manual_seed(0)
    monkeypatch.setattr(rough, "computes_in_bf16", lambda: True)
    keys, query = torch.randn(16_384, 4), torch.randn(1, 4)
    looked = counted(monkeypatch, "_among_rough")
    found, expected = nearest(query, SearchKeys.of(keys), 3), nearest(query, keys, 3)
    assert looked == [1]
    assert_as_near(found, expected, query, keys)


@pytest.mark.parametrize("rows", [1, 7, 50, 64])
def test_chunks_change_nothing(monkeypatch, rows):
    torch.manual_seed(0)
    features = torch.randn(50, 6)
    whole = nearest(features, None, 5)
    monkeypatch.setattr(exact, "DISTANCE_BYTES", rows * len(features) * 4)
    assert nearest(features, None, 5).equal(whole)


@pytest.mark.parametrize("offset", [0, 1e2, 1e4])
def test_far_from_the_origin_float32_still_finds_the_nearest(offset):
    torch.manual_seed(0)
    keys = torch.randn(300, 16) + offset  # rounded to float32 here, once for both
    found, expected = nearest(keys, None, 10), brute_force(keys, None, 10)
    assert (found == expected).float().mean() > 0.999


def test_autocast_and_gradient_do_not_reach_the_search():
    torch.manual_seed(0)
    queries, keys = torch.randn(20, 32, requires_grad=True), torch.randn(500, 32)
    expected = brute_force(queries.detach(), keys, 10)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert nearest(queries, keys, 10).equal(expected)


def test_integer_pixels_and_half_precision_are_compared_in_float32():
    torch.manual_seed(0)
    pixels = torch.randint(0, 256, (100, 48), dtype=torch.uint8)
    assert nearest(pixels, None, 1).equal(brute_force(pixels, None, 1))
    half = torch.randn(100, 48).bfloat16()
    assert nearest(half, None, 5).equal(brute_force(half, None, 5))


def test_self_is_never_found_even_among_duplicates():
    features = torch.zeros(40, 3)
    assert not (nearest(features, None, 20) == torch.arange(40).unsqueeze(1)).any()


@settings(max_examples=60, deadline=None)
@given(
    searches(),
    st.sampled_from([0.0, 1e2, 1e4]),
    st.sampled_from([torch.float32, torch.float64]),
    st.sampled_from([torch.float16, torch.float32, torch.float64]),
)
def test_held_keys_find_the_same_to_the_bit(case, offset, queried, kept):
    queries, keys, k, exclude = case
    queries, keys = (queries + offset).to(queried), (keys + offset).to(kept)
    held = SearchKeys.of(keys)
    for _ in range(2):
        assert nearest(queries, held, k, exclude).equal(nearest(queries, keys, k, exclude))
    part = torch.arange(len(keys) - 1)
    assert nearest(queries, held[part], k).equal(nearest(queries, keys[part], k))


def test_held_keys_are_prepared_once_and_what_is_computed_from_them_is_not(monkeypatch):
    torch.manual_seed(0)
    keys, calls, prepare = torch.randn(30, 4), [], search_keys._prepare
    monkeypatch.setattr(search_keys, "_prepare", lambda *a: calls.append(1) or prepare(*a))
    held = SearchKeys.of(keys)
    for _ in range(3):
        nearest(keys, held, 2)
    assert len(calls) == 1
    nearest(keys, held * 2, 2)
    assert len(calls) == 2


@pytest.mark.parametrize("heads", [1, 2])
@pytest.mark.parametrize("kind", [AdaptiveNeighbours, CosineNeighbours])
def test_what_a_learner_searches_in_their_place_is_prepared_once_too(monkeypatch, kind, heads):
    torch.manual_seed(0)
    learner = kind(3) if heads == 1 else Heads(kind(3), heads)
    keys, queries = torch.randn(30, 4), torch.randn(5, 4)
    calls, prepare = [], search_keys._prepare
    expected = learner(queries, keys)
    held = SearchKeys.of(keys)
    learner(queries, held)
    monkeypatch.setattr(search_keys, "_prepare", lambda *a: calls.append(1) or prepare(*a))
    found = learner(queries, held)
    assert not calls
    assert found.neighbours.equal(expected.neighbours) and found.weights.equal(expected.weights)
    # learned keys hold nothing of an older step
    learned = SearchKeys.of(keys.clone().requires_grad_())
    learner(queries, learned).weights.square().sum().backward()
    assert not learned.derived


def test_gradient_passes_through_held_keys():
    torch.manual_seed(0)
    keys = torch.randn(30, 4, requires_grad=True)
    (SearchKeys.of(keys) * 3).sum().backward()
    assert keys.grad.eq(3).all()


ROWS = torch.zeros(5, 3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((ROWS, None, 5), "k=5 must be from 1 to 4"),
        ((ROWS, None, 0), "k=0 must be from 1 to 4"),
        ((ROWS, ROWS, 6), "k=6 must be from 1 to 5"),
        ((ROWS, ROWS, 5, torch.tensor([-1, -1, 2, -1, -1])), "k=5 must be from 1 to 4"),
        ((ROWS[0], None, 1), r"queries must be of shape \(N, d\)"),
        ((ROWS[:0], None, 1), r"queries must be of shape .* N >= 1, not \(0, 3\)"),
        ((ROWS, ROWS[:, :2], 1), r"keys must be of shape \(M, 3\), M >= 1, not \(5, 2\)"),
        ((ROWS, None, 1, torch.arange(5)), "exclude needs keys"),
        ((ROWS, ROWS, 1, torch.arange(4)), r"exclude must be int64 of shape \(5,\)"),
        ((ROWS, ROWS, 1, torch.zeros(5)), "exclude must be int64 .* not torch.float32"),
        ((ROWS, ROWS, 1, torch.arange(5) + 1), "exclude must lie from -1 to 4, not 1 to 5"),
        ((ROWS, ROWS, 1, torch.arange(5) - 2), "exclude must lie from -1 to 4, not -2 to 2"),
    ],
)
def test_bad_input_is_one_clear_error(arguments, message):
    with pytest.raises(ValueError, match=message):
        nearest(*arguments)


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf, 1e30])
def test_values_that_are_not_finite_are_counted_by_row(bad):
    torch.manual_seed(0)
    good, broken = torch.randn(8, 3), torch.randn(8, 3)
    broken[2, 1] = broken[5] = bad
    with pytest.raises(ValueError, match="keys: 2 of 8 rows hold NaN"):
        nearest(good, broken, 3)
    for keys in (good, None):
        with pytest.raises(ValueError, match="queries: 2 of 8 rows hold NaN"):
            nearest(broken, keys, 3)
