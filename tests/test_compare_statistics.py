"""The bootstrap of paired differences, beside scipy's and against what is known exactly."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats

from cnn2gnn.compare.statistics import paired_interval

RNG = np.random.default_rng(0)


def test_of_one_seed_it_is_the_plain_paired_bootstrap() -> None:
    first, second = RNG.random((1, 400)) < 0.8, RNG.random((1, 400)) < 0.7
    ours = paired_interval(first, second)
    difference = first[0].astype(float) - second[0]
    theirs = scipy.stats.bootstrap(
        (difference,), np.mean, method="percentile", n_resamples=10_000, rng=1
    ).confidence_interval
    assert ours.mean == pytest.approx(difference.mean())
    assert ours.low == pytest.approx(theirs.low, abs=0.006)
    assert ours.high == pytest.approx(theirs.high, abs=0.006)


def test_seeds_and_images_are_both_drawn() -> None:
    """Each way by which the difference varies widens the interval as its variance demands."""
    seeds, images = 40, 400
    by_seed, by_image = RNG.random((seeds, 1)), RNG.random((1, images))
    for chance in (by_seed + 0 * by_image, by_image + 0 * by_seed):
        first = chance > 0.5
        interval = paired_interval(first, np.zeros_like(first))
        count = seeds if first.any(1).min() != first.any(1).max() else images
        expected = 1.96 * first.std() / np.sqrt(count)
        assert (interval.high - interval.low) / 2 == pytest.approx(expected, rel=0.2)


@pytest.mark.parametrize(("seeds", "deviation"), [(3, 0.0), (10, 0.0), (3, 0.15)])
def test_how_far_it_can_be_trusted(seeds: int, deviation: float) -> None:
    """As its docstring says: too wide where seeds hardly differ, else of few seeds too narrow."""
    rng, gain, covered, widths, means = np.random.default_rng(1), 0.03, [], [], []
    for _ in range(100):
        by_seed = gain + deviation * rng.standard_normal((seeds, 1))
        chance = rng.random((seeds, 200))
        first, second = chance < (0.6 + by_seed) / 2, chance > 1 - (0.6 - by_seed) / 2
        interval = paired_interval(first, second, draws=200)
        covered.append(interval.low <= gain <= interval.high)
        widths.append(interval.high - interval.low)
        means.append(interval.mean)
    too_wide = np.mean(widths) / (2 * 1.96 * np.std(means))
    if deviation:
        assert np.mean(covered) < 0.88 and too_wide < 0.9
    else:
        assert np.mean(covered) > 0.96 and too_wide > 1.3


def test_models_that_are_right_on_the_same_images_do_not_differ() -> None:
    right = RNG.random((3, 50)) < 0.5
    assert paired_interval(right, right) == (0, 0, 0)


def test_the_difference_turns_with_the_models() -> None:
    first, second = RNG.random((3, 200)) < 0.6, RNG.random((3, 200)) < 0.5
    there, back = paired_interval(first, second), paired_interval(second, first)
    np.testing.assert_allclose(back, [-there.mean, -there.high, -there.low], atol=1e-12)
    assert there.low <= there.mean <= there.high


@pytest.mark.parametrize(("one", "other"), [((3, 5), (3, 6)), ((0, 5), (0, 5)), ((5,), (5,))])
def test_shapes_that_do_not_fit_are_refused(one: tuple[int, ...], other: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"\(S, N\)"):
        paired_interval(np.zeros(one, bool), np.zeros(other, bool))
