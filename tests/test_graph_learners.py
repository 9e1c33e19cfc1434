"""Graph learners against dense autograd, entmax and the properties that define them."""

from __future__ import annotations

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from cnn2gnn.base.values import ConfigError
from cnn2gnn.graph import (
    AdaptiveNeighbours,
    AnchorNeighbours,
    CosineNeighbours,
    EntmaxNeighbours,
    FixedFeatures,
    FixedNeighbours,
    GumbelNeighbours,
    LearnedK,
    NoGraph,
    RandomNeighbours,
    SoftmaxNeighbours,
    SparsemaxNeighbours,
    WhitenedNeighbours,
    adaptive_weights,
)
from cnn2gnn.models.graph_network import GraphNetwork
from cnn2gnn.registry import LEARNERS


def features(n, d, seed=0, dtype=torch.float64):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=dtype)


# their weights move with the distances; whoever looks at the features alone is another kind
SCORED = ["softmax", "sparsemax", "entmax", "gumbel"]
BY_DISTANCE = ["adaptive", "whitened", "fixed", "fixed-features", "adaptive-k", "cosine", *SCORED]


def dense_adjacency(queries, keys, k, exclude):
    """The formula on the whole distance matrix, by autograd: the oracle of AdaptiveNeighbours."""
    distances = (queries.unsqueeze(1) - keys).square().sum(2)  # (N, M)
    hidden = torch.zeros(distances.shape, dtype=torch.bool)
    hidden[exclude >= 0, exclude[exclude >= 0]] = True
    ascending = distances.masked_fill(hidden, torch.inf).sort(1).values
    boundary = ascending[:, k : k + 1]
    total = k * boundary - ascending[:, :k].sum(1, keepdim=True)
    return ((boundary - distances) / total).clamp(min=0).masked_fill(hidden, 0)


@st.composite
def nodes(draw):
    m, d = draw(st.integers(3, 60)), draw(st.integers(1, 8))
    n, k = draw(st.integers(1, 20)), draw(st.integers(1, m - 2))
    seed = draw(st.integers(0, 2**31))
    exclude = torch.randint(-1, m, (n,), generator=torch.Generator().manual_seed(seed))
    return features(n, d, seed), features(m, d, seed + 1), k, exclude


@settings(max_examples=60, deadline=None)
@given(nodes())
def test_adaptive_equals_dense_autograd_in_values_and_gradients(case):
    queries, keys, k, exclude = case
    queries.requires_grad_(), keys.requires_grad_()
    graph = AdaptiveNeighbours(k)(queries, keys, exclude)
    oracle = dense_adjacency(queries, keys, k, exclude)
    torch.testing.assert_close(graph.dense(), oracle)
    assert (graph.distances.diff(dim=1) >= 0).all()
    slope = features(*oracle.shape, seed=9)
    ours = torch.autograd.grad((graph.dense() * slope).sum(), (queries, keys))
    theirs = torch.autograd.grad((oracle * slope).sum(), (queries, keys))
    # Margins close to 0 make slopes of any size: compare on the scale of the largest.
    for mine, right in zip(ours, theirs, strict=True):
        assert (mine - right).abs().max() <= 1e-6 * (1 + right.abs().max())


@settings(max_examples=30, deadline=None)
@given(nodes())
def test_within_a_set_equals_the_set_as_bank_without_self(case):
    _, keys, k, _ = case
    keys.requires_grad_()
    inside = AdaptiveNeighbours(k)(keys)
    outside = dense_adjacency(keys, keys, k, torch.arange(len(keys)))
    torch.testing.assert_close(inside.dense(), outside)
    slope = features(*outside.shape, seed=9)
    (mine,) = torch.autograd.grad((inside.dense() * slope).sum(), keys)
    (right,) = torch.autograd.grad((outside * slope).sum(), keys)
    assert (mine - right).abs().max() <= 1e-6 * (1 + right.abs().max())


@pytest.mark.parametrize("name", ["adaptive", "whitened", *SCORED, "adaptive-k", "cosine"])
def test_gradcheck_in_float64(name):
    learner = LEARNERS[name](3).double().eval()
    queries, keys = features(4, 3).requires_grad_(), features(12, 3, seed=1).requires_grad_()
    assert torch.autograd.gradcheck(lambda q, x: learner(q, x).dense(), (queries, keys))
    assert torch.autograd.gradcheck(lambda x: learner(x).dense(), (keys,))
    assert torch.autograd.gradcheck(lambda x: learner(x).aggregate(x), (keys,))


def test_adaptive_is_sparsemax_at_the_matching_gamma():
    entmax = pytest.importorskip("entmax")
    queries, keys, k = features(30, 5), features(40, 5, seed=1), 6
    distances = (queries.unsqueeze(1) - keys).square().sum(2)  # (30, 40)
    ascending = distances.sort(1).values
    gamma = (k * ascending[:, k] - ascending[:, :k].sum(1)) / 2  # (30,)
    oracle = entmax.sparsemax(-distances / (2 * gamma.unsqueeze(1)), dim=1)
    torch.testing.assert_close(AdaptiveNeighbours(k)(queries, keys).dense(), oracle)
    assert ((oracle > 1e-12).sum(1) == k).all()  # entmax leaves rounding at the boundary


@settings(max_examples=50, deadline=None)
@given(st.floats(1e-3, 1e3), st.floats(-10, 1e3), st.integers(1, 12))
def test_weights_do_not_change_under_affine_distances(scale, shift, k):
    distances = features(20, k + 1, dtype=torch.float64).square().sort(1).values
    torch.testing.assert_close(
        adaptive_weights(scale * distances + shift), adaptive_weights(distances), rtol=0, atol=1e-8
    )


@pytest.mark.parametrize("name", BY_DISTANCE)
def test_permuting_nodes_permutes_the_graph(name):
    x, order = features(40, 4), torch.randperm(40, generator=torch.Generator().manual_seed(0))
    learner = LEARNERS[name](5).eval()
    torch.testing.assert_close(
        learner(x[order]).dense(), learner(x).dense()[order][:, order], rtol=1e-9, atol=1e-12
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("offset", [0.0, 3.7])
def test_ties_are_uniform_without_gradient(dtype, offset):
    corners = (torch.eye(7, dtype=dtype) + offset).requires_grad_()  # all at squared distance 2
    graph = AdaptiveNeighbours(4)(corners)
    torch.testing.assert_close(graph.weights, torch.full((7, 4), 0.25, dtype=dtype))
    (gradient,) = torch.autograd.grad(graph.weights.square().sum(), corners)
    assert gradient.equal(torch.zeros_like(corners))


def test_duplicates_share_their_weight_and_have_finite_gradients():
    x = torch.cat([torch.zeros(3, 2), torch.tensor([[1.0, 0.0], [0.0, 5.0], [7.0, 7.0]])])
    x.requires_grad_()
    graph = AdaptiveNeighbours(3)(x)
    # Node 0 sees two copies of itself and (1, 0); (0, 5) sets the scale: margins 25, 25, 24.
    torch.testing.assert_close(graph.weights[0], torch.tensor([25.0, 25.0, 24.0]) / 74)
    (gradient,) = torch.autograd.grad(graph.weights.square().sum(), x)
    assert gradient.isfinite().all()
    assert gradient.abs().sum() > 0


@pytest.mark.parametrize("name", BY_DISTANCE)
def test_a_set_of_copies_is_uniform(name):
    x = torch.full((10, 4), 2.5, requires_grad=True)
    graph = LEARNERS[name](3).eval()(x)
    torch.testing.assert_close(graph.weights, torch.full((10, 3), 1 / 3))
    (gradient,) = torch.autograd.grad(graph.weights.square().sum(), x, materialize_grads=True)
    assert gradient.equal(torch.zeros_like(x))


@pytest.mark.parametrize("n", [2, 5, 6])
def test_too_few_nodes_are_one_clear_error(n):
    with pytest.raises(ValueError, match=f"k=5 .* at least 6 candidates .* has {n - 1}"):
        AdaptiveNeighbours(5)(features(n, 3))
    AdaptiveNeighbours(n - 1)(features(n, 3), features(n, 3, seed=1))  # a bank loses no self


def test_a_bank_that_excludes_needs_one_node_more():
    queries, keys = features(2, 3), features(6, 3)
    assert AdaptiveNeighbours(5)(queries, keys).weights.shape == (2, 5)
    with pytest.raises(ValueError, match="k=5 .* has 5"):
        AdaptiveNeighbours(5)(queries, keys, torch.tensor([-1, 3]))


@pytest.mark.parametrize("name", BY_DISTANCE)
def test_nan_is_one_clear_error(name):
    x = features(20, 3)
    x[4, 0] = torch.nan
    with pytest.raises(ValueError, match="1 of 20 rows hold NaN"):
        LEARNERS[name](3)(x)


@pytest.mark.parametrize("name", BY_DISTANCE)
def test_weights_are_float32_under_bf16_autocast(name):
    x = features(50, 16, dtype=torch.float32).requires_grad_()
    learner = LEARNERS[name](5).eval()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        graph = learner(x)
        narrow = learner(x.bfloat16())
    assert graph.weights.dtype == narrow.weights.dtype == torch.float32
    torch.testing.assert_close(graph.weights, learner(x).weights, rtol=0, atol=0)
    (gradient,) = torch.autograd.grad(graph.weights.square().sum(), x)
    assert gradient.dtype == torch.float32


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(["adaptive", "fixed", "softmax", "random"]), st.data())
def test_every_learner_gives_a_row_stochastic_graph_of_distinct_neighbours(name, data):
    n, k = data.draw(st.integers(4, 50)), data.draw(st.integers(1, 10))
    k = min(k, n - 2)
    graph = LEARNERS[name](k)(features(n, 3, dtype=torch.float32))
    assert graph.neighbours.shape == graph.weights.shape == (n, k)
    assert (graph.weights >= 0).all()
    torch.testing.assert_close(graph.weights.sum(1), torch.ones(n))
    assert not (graph.neighbours == torch.arange(n).unsqueeze(1)).any()
    assert (graph.neighbours.sort(1).values.diff(dim=1) > 0).all()


def test_random_neighbours_are_uniform_over_the_allowed():
    exclude = torch.full((6000,), 2)
    exclude[3000:] = -1
    graph = RandomNeighbours(3, seed=1)(torch.zeros(6000, 2), torch.zeros(8, 2), exclude)
    barred, free = (torch.bincount(half.flatten(), minlength=8) / 3000
                    for half in graph.neighbours.chunk(2))  # fmt: skip
    allowed = torch.tensor([3 / 7] * 2 + [0] + [3 / 7] * 5)
    # 3,000 draws: five standard deviations of a share are 0.045
    torch.testing.assert_close(barred, allowed, rtol=0, atol=0.045)
    torch.testing.assert_close(free, torch.full((8,), 3 / 8), rtol=0, atol=0.045)


def test_random_neighbours_follow_the_seed_alone():
    x = features(30, 3)
    first, again, other = (RandomNeighbours(4, seed)(x).neighbours for seed in (0, 0, 1))
    assert first.equal(again)
    assert not first.equal(other)
    assert RandomNeighbours(29)(x).neighbours.sort(1).values[0].equal(torch.arange(1, 30))
    with pytest.raises(ValueError, match="k=30 must be at most 29"):
        RandomNeighbours(30)(x)


def test_no_graph_gives_every_node_itself():
    x = features(5, 3)
    torch.testing.assert_close(NoGraph()(x).aggregate(x), x)
    with pytest.raises(ValueError, match="not in the bank"):
        NoGraph()(x, x)


def test_fixed_neighbours_look_at_pixels():
    pixels = torch.randint(0, 256, (40, 64), dtype=torch.uint8)
    graph = FixedNeighbours(5)(pixels)
    torch.testing.assert_close(graph.weights, AdaptiveNeighbours(5)(pixels.float()).weights)
    assert (FixedNeighbours.space, AdaptiveNeighbours.space) == ("pixels", "features")


def test_the_registry_knows_every_learner_and_refuses_bad_values():
    assert {name: LEARNERS[name] for name in LEARNERS} == {
        "adaptive": AdaptiveNeighbours,
        "none": NoGraph,
        "random": RandomNeighbours,
        "fixed": FixedNeighbours,
        "whitened": WhitenedNeighbours,
        "fixed-features": FixedFeatures,
        "cosine": CosineNeighbours,
        "anchors": AnchorNeighbours,
        "adaptive-k": LearnedK,
        "softmax": SoftmaxNeighbours,
        "sparsemax": SparsemaxNeighbours,
        "entmax": EntmaxNeighbours,
        "gumbel": GumbelNeighbours,
    }
    with pytest.raises(KeyError, match="graph='knn': known are adaptive, none"):
        LEARNERS["knn"]
    with pytest.raises(ValueError, match="k=0 must be at least 1"):
        LEARNERS["adaptive"](0)
    with pytest.raises(ValueError, match="temperature=0 must be positive"):
        LEARNERS["softmax"](3, temperature=0)


@pytest.mark.parametrize("name", BY_DISTANCE)
@settings(max_examples=25, deadline=None)
@given(nodes(), st.booleans())
def test_every_row_is_a_distribution_over_others(name, case, training):
    queries, keys, k, exclude = case
    graph = LEARNERS[name](k).double().train(training)(queries, keys, exclude)
    assert (graph.weights >= 0).all()
    torch.testing.assert_close(graph.weights.sum(1), torch.ones(len(queries), dtype=torch.float64))
    assert (graph.neighbours != exclude[:, None]).all()
    assert all(len(row.unique()) == k for row in graph.neighbours)


@settings(max_examples=40, deadline=None)
@given(nodes())
def test_cosine_weights_are_those_of_the_dense_similarity(case):
    queries, keys, k, exclude = case
    assume(queries.shape[1] > 1)  # on a line, all that point the same way tie
    similar = F.cosine_similarity(queries[:, None], keys, dim=2)  # (N, M)
    similar = similar.masked_fill(F.one_hot(exclude + 1, len(keys) + 1)[:, 1:].bool(), -2)
    best = similar.topk(k, dim=1)
    kept = torch.zeros_like(similar).scatter(1, best.indices, best.values.clamp(min=0))
    total = kept.sum(1, keepdim=True)
    graph = CosineNeighbours(k)(queries, keys, exclude)
    found, some = graph.dense(), total[:, 0] > 1e-9
    torch.testing.assert_close(found[some], (kept / total)[some], rtol=1e-6, atol=1e-6)
    assert (graph.weights[~some] == 1 / k).all()
    near = CosineNeighbours(k).candidates(queries, keys, exclude)
    assert near is not None and torch.equal(near.sort(1).values, graph.neighbours.sort(1).values)


def test_fixed_features_keep_their_variances():
    x = features(300, 5, dtype=torch.float32) * torch.arange(1.0, 6)
    network = GraphNetwork(5, 3, FixedFeatures(4))
    network.start_keys(x, torch.arange(300) % 3)
    mine, its = (torch.pdist(points) for points in (network.keys(x), x))
    torch.testing.assert_close(mine, its, rtol=1e-4, atol=1e-4)
    assert not network.project.weight.requires_grad


@pytest.mark.parametrize("name", [*SCORED, "adaptive-k"])
def test_what_a_learner_learns_gets_a_gradient(name):
    learner, x = LEARNERS[name](5), features(40, 6, dtype=torch.float32)
    learner(x).weights.square().sum().backward()
    moved = {
        n: p.grad is not None and p.grad.abs().sum() > 0 for n, p in learner.named_parameters()
    }
    assert moved and all(moved.values())


def test_an_open_gate_leaves_the_adaptive_neighbours():
    learner, x = LEARNERS["adaptive-k"](5).double(), features(40, 6)
    torch.nn.init.constant_(learner.gate.bias, 40.0)
    torch.testing.assert_close(learner(x).dense(), AdaptiveNeighbours(5)(x).dense())


def test_a_gate_that_closes_has_fewer_neighbours_and_not_the_same_number_everywhere():
    learner, x = LEARNERS["adaptive-k"](8).double(), features(60, 6)
    counts = []
    for bias in (3.0, 0.0, -3.0):
        torch.nn.init.constant_(learner.gate.bias, bias)
        counts.append((learner(x).weights > 0).sum(1))
    assert counts[0].double().mean() > counts[1].double().mean() > counts[2].double().mean()
    assert all(count.min() >= 1 for count in counts) and len(counts[1].unique()) > 2


@pytest.mark.parametrize("bias", [-9.0, -12.0, -20.0, -200.0])
def test_of_a_gate_that_is_all_but_closed_the_nearest_has_all_weight(bias):
    learner, x = LEARNERS["adaptive-k"](20), features(100, 400, dtype=torch.float32)
    torch.nn.init.constant_(learner.gate.bias, bias)
    graph = learner(x.requires_grad_())
    assert graph.weights[:, 0].eq(1).all() and graph.weights[:, 1:].eq(0).all()
    (graph.weights * torch.arange(20)).sum().backward()
    assert x.grad.isfinite().all() and learner.gate.bias.grad.isfinite().all()


def test_cosine_refuses_what_its_length_cannot_be_told_of():
    huge = 1e30 * torch.ones(6, 2)
    with pytest.raises(ValueError, match="keys: 6 of 6 rows hold NaN, infinity or "):
        CosineNeighbours(2)(features(3, 2, dtype=torch.float32), huge)
    whole = torch.arange(12).view(6, 2)  # as floats, like every learner
    assert CosineNeighbours(2)(whole).weights.dtype == torch.float32


@pytest.mark.parametrize("name", sorted({*LEARNERS} - {"none"}))
@pytest.mark.parametrize("k", [2.5, "5", True, None, torch.ones(2)], ids=str)
def test_k_must_be_a_whole_number(name, k):
    with pytest.raises(ConfigError, match="^k=.* must be a whole number$"):
        LEARNERS[name](k)
    assert type(LEARNERS[name](torch.tensor(3)).k) is int


@pytest.mark.parametrize("name", [*SCORED, "adaptive", "cosine", "random"])
def test_every_learner_names_the_argument_that_does_not_fit(name):
    with pytest.raises(ValueError, match="^k=-1 must be at least 1"):
        LEARNERS[name](-1)
    with pytest.raises(ValueError, match=r"^queries must be of shape \(N, d\), d >= 1"):
        LEARNERS[name](2)(torch.ones(6, 0))
    with pytest.raises(ValueError, match="^keys must be real numbers, not torch.complex64"):
        LEARNERS[name](2)(torch.ones(6, 2), torch.ones(6, 2) * 1j)


@pytest.mark.parametrize("name", [*SCORED, *BY_DISTANCE])
def test_the_gradient_is_finite_however_near_the_nodes_are(name):
    keys = (1e-18 * features(8, 6, dtype=torch.float32)).requires_grad_()
    graph = LEARNERS[name](6)(keys)
    (graph.weights * torch.arange(6)).sum().backward()
    assert keys.grad is None or keys.grad.isfinite().all()
